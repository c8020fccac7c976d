-- case: temporal join of view
-- compare: multiset
-- features: temporal,join,of,view
CREATE TABLE k (id INT, u STRING, v INT, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND) WITH ('connector'='kafka', 'topic'='k', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE VIEW d AS SELECT u, v, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY u ORDER BY ts DESC) AS rn FROM k) WHERE rn = 1;
CREATE TABLE out1 (id INT, v INT) WITH ('connector'='print', 'print-identifier'='out1');
INSERT INTO out1 SELECT k.id, d.v FROM k LEFT JOIN d FOR SYSTEM_TIME AS OF k.ts ON k.u = d.u;
