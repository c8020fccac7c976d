-- case: JSON_OBJECTAGG of rows that change
-- compare: steps
-- features: aggregate,json
CREATE TABLE o (id INT, cust INT, amount INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='o', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE out1_104 (j STRING) WITH ('connector'='print', 'print-identifier'='out1_104');
INSERT INTO out1_104 SELECT JSON_OBJECTAGG(KEY CAST(id AS STRING) VALUE amount) FROM o;
