-- case: cascaded windows
-- compare: multiset
-- features: cascaded,windows
CREATE TABLE k (id INT, u STRING, v INT, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND) WITH ('connector'='kafka', 'topic'='k', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE VIEW v1 AS SELECT u, window_time AS wt, COUNT(*) AS c FROM TABLE(TUMBLE(TABLE k, DESCRIPTOR(ts), INTERVAL '5' SECOND)) GROUP BY u, window_start, window_end, window_time;
CREATE TABLE out1 (ws TIMESTAMP(3), n BIGINT) WITH ('connector'='print', 'print-identifier'='out1');
INSERT INTO out1 SELECT window_start, SUM(c) FROM TABLE(TUMBLE(TABLE v1, DESCRIPTOR(wt), INTERVAL '20' SECOND)) GROUP BY window_start, window_end;
