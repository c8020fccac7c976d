-- case: agg in where
-- compare: error
-- features: error,agg-in-where
CREATE TABLE a (id INT, v INT, s STRING, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector'='filesystem', 'path'='${DIR}/a.jsonl', 'format'='json');
CREATE TABLE n (id INT, v INT, s STRING, d DATE, m DECIMAL(10,2), arr ARRAY<INT>, r ROW<x INT>) WITH ('connector'='filesystem', 'path'='${DIR}/a.jsonl', 'format'='json');
CREATE TABLE t (id INT, v INT, ts TIMESTAMP(3), PRIMARY KEY (id) NOT ENFORCED, WATERMARK FOR ts AS ts) WITH ('connector'='filesystem', 'path'='${DIR}/t.jsonl', 'format'='debezium-json');
CREATE TABLE out1 (id INT, v INT) WITH ('connector'='print', 'print-identifier'='out1');
CREATE TABLE k (id INT, n BIGINT) WITH ('connector'='kafka', 'topic'='k', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE TABLE u (id INT, n BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='upsert-kafka', 'topic'='u', 'properties.bootstrap.servers'='localhost:9092', 'key.format'='json', 'value.format'='json');
CREATE TABLE pg (id INT, v INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='jdbc', 'url'='jdbc:postgresql://localhost/db', 'table-name'='pg');
INSERT INTO out1 SELECT id, v FROM a WHERE SUM(v) > 1;
