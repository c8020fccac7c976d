-- case: STDDEV and VAR of DISTINCT values over windows
-- compare: exact
-- features: over,distinct,stddev,variance
-- note: Flink makes sums of them, each DISTINCT by itself.
CREATE TABLE s (id INT, k STRING, v INT, d DOUBLE, m DECIMAL(8,2), ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '3' SECOND) WITH ('connector'='filesystem', 'path'='${DIR}/s.jsonl', 'format'='json');
CREATE TABLE o1 (id INT, sp INT, ss INT, vp INT, vs INT, n BIGINT, sm INT, av INT) WITH ('connector'='print', 'print-identifier'='o1');
CREATE TABLE o2 (id INT, sp DOUBLE, ss DOUBLE, vp DOUBLE, vs DOUBLE) WITH ('connector'='print', 'print-identifier'='o2');
CREATE TABLE o3 (id INT, sp DECIMAL(38,6), vs DECIMAL(38,6)) WITH ('connector'='print', 'print-identifier'='o3');
INSERT INTO o1 SELECT id, STDDEV_POP(DISTINCT v) OVER w, STDDEV_SAMP(DISTINCT v) OVER w, VAR_POP(DISTINCT v) OVER w, VAR_SAMP(DISTINCT v) OVER w, COUNT(DISTINCT v) OVER w, SUM(DISTINCT v) OVER w, AVG(DISTINCT v) OVER w FROM s WINDOW w AS (PARTITION BY k ORDER BY ts);
INSERT INTO o2 SELECT id, STDDEV_POP(DISTINCT d) OVER w, STDDEV_SAMP(DISTINCT d) OVER w, VAR_POP(DISTINCT d) OVER w, VAR_SAMP(DISTINCT d) OVER w FROM s WINDOW w AS (PARTITION BY k ORDER BY ts ROWS BETWEEN 2 PRECEDING AND CURRENT ROW);
INSERT INTO o3 SELECT id, STDDEV_POP(DISTINCT m) OVER w, VAR_SAMP(DISTINCT m) OVER w FROM s WINDOW w AS (PARTITION BY k ORDER BY ts);
