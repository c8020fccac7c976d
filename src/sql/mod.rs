//! Flink's SQL dialect: parse, catalog, bind, plan, changelog mode, explain.
