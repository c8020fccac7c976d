-- case: RANGE of a month
-- compare: error
CREATE TABLE s (id INT, k STRING, v INT, d DOUBLE, m DECIMAL(8,2), ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '3' SECOND) WITH ('connector'='filesystem', 'path'='${DIR}/s.jsonl', 'format'='json');
CREATE TABLE o1 (id INT, n BIGINT) WITH ('connector'='print', 'print-identifier'='o1');
INSERT INTO o1 SELECT id, COUNT(*) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '1' MONTH PRECEDING AND CURRENT ROW) FROM s;
