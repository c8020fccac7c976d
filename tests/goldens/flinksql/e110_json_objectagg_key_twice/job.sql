-- case: JSON_OBJECTAGG of one key twice
-- compare: error
CREATE TABLE s (id INT, k STRING, v INT, d DOUBLE, m DECIMAL(8,2), ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '3' SECOND) WITH ('connector'='filesystem', 'path'='${DIR}/s.jsonl', 'format'='json');
CREATE TABLE o1 (k STRING, j STRING) WITH ('connector'='print', 'print-identifier'='o1');
INSERT INTO o1 SELECT k, JSON_OBJECTAGG(KEY CAST(v AS STRING) VALUE id) FROM s WHERE v IS NOT NULL GROUP BY k;
