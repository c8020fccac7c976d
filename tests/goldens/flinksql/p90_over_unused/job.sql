-- case: an OVER that nobody looks at
-- compare: steps
-- features: over
CREATE TABLE k (id INT, u STRING, v INT, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND) WITH ('connector'='kafka', 'topic'='k', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE TABLE o_0063 (f0 STRING, f1 BIGINT) WITH ('connector'='print', 'print-identifier'='o_0063');
INSERT INTO o_0063 SELECT u, COUNT(*) FROM (SELECT u, COUNT(*) OVER (PARTITION BY u ORDER BY ts ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS n FROM k) GROUP BY u;
