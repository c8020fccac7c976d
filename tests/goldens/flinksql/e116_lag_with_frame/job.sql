-- case: LAG, FIRST_VALUE and COUNT with frames
-- compare: error
CREATE TABLE s (id INT, k STRING, v INT, pt AS PROCTIME()) WITH ('connector'='filesystem', 'path'='${DIR}/s.jsonl', 'format'='json');
CREATE TABLE o1 (id INT, b BIGINT) WITH ('connector'='print', 'print-identifier'='o1');
INSERT INTO o1 SELECT id, LAG(v) OVER (PARTITION BY k ORDER BY pt ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM s;
