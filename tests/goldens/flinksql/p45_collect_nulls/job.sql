-- case: collect nulls
-- compare: steps
-- features: collect,nulls
CREATE TABLE k (id INT, u STRING, v INT, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND) WITH ('connector'='kafka', 'topic'='k', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE TABLE out1 (u STRING, m MULTISET<INT>) WITH ('connector'='print', 'print-identifier'='out1');
INSERT INTO out1 SELECT u, COLLECT(v) FROM k GROUP BY u;
