-- case: LAG with offset and default: the default also stands for a NULL that is there
-- compare: exact
-- features: filesystem,json,over,lag
CREATE TABLE s (id INT, k STRING, v INT, d DOUBLE, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '3' SECOND) WITH ('connector'='filesystem', 'path'='${DIR}/s.jsonl', 'format'='json');
CREATE TABLE o_lag (id INT, a INT, b INT, c INT) WITH ('connector'='print', 'print-identifier'='o_lag');
INSERT INTO o_lag SELECT id, LAG(v) OVER w, LAG(v, 2) OVER w, LAG(v, 2, -1) OVER w FROM s WINDOW w AS (PARTITION BY k ORDER BY ts);
