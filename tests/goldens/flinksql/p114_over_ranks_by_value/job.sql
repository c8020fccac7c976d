-- case: RANK and DENSE_RANK by value
-- compare: exact
CREATE TABLE s (id INT, k STRING, v INT, d DOUBLE, t STRING, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '3' SECOND) WITH ('connector'='filesystem', 'path'='${DIR}/s.jsonl', 'format'='json');
CREATE TABLE o1 (id INT, a BIGINT, b BIGINT) WITH ('connector'='print', 'print-identifier'='o1');
INSERT INTO o1 SELECT id, RANK() OVER (PARTITION BY k ORDER BY v), DENSE_RANK() OVER (PARTITION BY k ORDER BY v) FROM s;
