-- case: an interval join holds the watermark back
-- compare: steps
-- features: interval join,window
CREATE TABLE k (id INT, u STRING, v INT, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND) WITH ('connector'='kafka', 'topic'='k', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE TABLE w (id INT, u STRING, q INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector'='kafka', 'topic'='w', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE TABLE o_0016 (f0 TIMESTAMP(3), f1 BIGINT) WITH ('connector'='print', 'print-identifier'='o_0016');
INSERT INTO o_0016 SELECT TUMBLE_START(ts, INTERVAL '10' SECOND), COUNT(*) FROM (SELECT w.ts AS ts FROM k JOIN w ON k.u = w.u AND w.ts BETWEEN k.ts - INTERVAL '2' SECOND AND k.ts + INTERVAL '5' SECOND) GROUP BY TUMBLE(ts, INTERVAL '10' SECOND);
