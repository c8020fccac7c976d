-- case: ON CONFLICT DO ERROR needs watermarks
-- compare: error
-- features: error
CREATE TABLE a (id INT, v INT, s STRING, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector'='kafka', 'topic'='a', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE TABLE b (id INT, w INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector'='kafka', 'topic'='b', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE TABLE n (id INT, v INT, d DATE, m DECIMAL(10,2), arr ARRAY<INT>, mp MAP<STRING, INT>, r ROW<x INT, y STRING>, bo BOOLEAN, lz TIMESTAMP_LTZ(3), byt BYTES) WITH ('connector'='kafka', 'topic'='n', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE TABLE t (id INT, v INT, ts TIMESTAMP(3), PRIMARY KEY (id) NOT ENFORCED, WATERMARK FOR ts AS ts) WITH ('connector'='kafka', 'topic'='t', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE q (id INT, v INT, s STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='q', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE d (x INT, y INT) WITH ('connector'='kafka', 'topic'='d', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE u (id INT, n BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='upsert-kafka', 'topic'='u', 'properties.bootstrap.servers'='localhost:9092', 'key.format'='json', 'value.format'='json');
CREATE TABLE g (id INT, v INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='jdbc', 'url'='jdbc:postgresql://localhost/db', 'table-name'='g');
CREATE TABLE k (id INT, n BIGINT) WITH ('connector'='kafka', 'topic'='k', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE TABLE z (id INT, n BIGINT) WITH ('connector'='kafka', 'topic'='z', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');

INSERT INTO u SELECT id, CAST(v AS BIGINT) FROM q ON CONFLICT DO ERROR;
