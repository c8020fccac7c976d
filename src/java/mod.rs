//! What Java's class library does with texts, where Debezium, Kafka Connect and Flink let it through to the user.

pub mod date_pattern;
pub mod float;
pub mod hash;
pub mod hash_map;
pub mod regex;
pub mod regex_error;
pub mod regex_list;
pub mod simple_date;
