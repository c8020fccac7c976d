-- case: ranks over event time with equal times
-- compare: exact
CREATE TABLE s (id INT, k STRING, v INT, d DOUBLE, t STRING, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '3' SECOND) WITH ('connector'='filesystem', 'path'='${DIR}/s.jsonl', 'format'='json');
CREATE TABLE o1 (id INT, a BIGINT, b BIGINT) WITH ('connector'='print', 'print-identifier'='o1');
CREATE TABLE o2 (id INT, a BIGINT, b BIGINT) WITH ('connector'='print', 'print-identifier'='o2');
CREATE TABLE o3 (id INT, a BIGINT, b BIGINT) WITH ('connector'='print', 'print-identifier'='o3');
CREATE TABLE o4 (id INT, a BIGINT, b BIGINT) WITH ('connector'='print', 'print-identifier'='o4');
CREATE TABLE o5 (id INT, a BIGINT, b BIGINT) WITH ('connector'='print', 'print-identifier'='o5');
CREATE TABLE o6 (id INT, a BIGINT, b BIGINT) WITH ('connector'='print', 'print-identifier'='o6');
INSERT INTO o1 SELECT id, RANK() OVER (PARTITION BY k ORDER BY ts), DENSE_RANK() OVER (PARTITION BY k ORDER BY ts) FROM s;
INSERT INTO o2 SELECT id, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts), CAST(0 AS BIGINT) FROM s;
INSERT INTO o3 SELECT id, RANK() OVER (PARTITION BY k ORDER BY pt), DENSE_RANK() OVER (PARTITION BY k ORDER BY pt) FROM s;
INSERT INTO o4 SELECT id, COUNT(*) OVER (PARTITION BY k ORDER BY ts), RANK() OVER (PARTITION BY k ORDER BY ts) FROM s;
INSERT INTO o5 SELECT id, RANK() OVER w, DENSE_RANK() OVER w FROM s WINDOW w AS (PARTITION BY k ORDER BY ts);
INSERT INTO o6 SELECT id, COUNT(*) OVER (PARTITION BY k ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW), ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts) FROM s;
