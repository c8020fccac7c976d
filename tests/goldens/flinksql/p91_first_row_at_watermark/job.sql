-- case: the first row by event time, at the watermark
-- compare: steps
-- features: deduplicate
CREATE TABLE k (id INT, u STRING, v INT, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND) WITH ('connector'='kafka', 'topic'='k', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE TABLE o_0115 (f0 INT, f1 STRING) WITH ('connector'='print', 'print-identifier'='o_0115');
INSERT INTO o_0115 SELECT id, u FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY u ORDER BY ts ASC) AS rn FROM k) WHERE rn = 1;
