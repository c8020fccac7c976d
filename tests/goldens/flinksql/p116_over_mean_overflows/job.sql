-- case: AVG over rows whose sum does not fit
-- compare: exact
-- features: group-by,avg,overflow
CREATE TABLE s (id INT, k STRING, t TINYINT, i SMALLINT, v INT, b BIGINT, f FLOAT, m DECIMAL(38,0), pt AS PROCTIME()) WITH ('connector'='filesystem', 'path'='${DIR}/s.jsonl', 'format'='json');
CREATE TABLE o1 (k STRING, t TINYINT, i SMALLINT, v INT, b BIGINT) WITH ('connector'='print', 'print-identifier'='o1');
CREATE TABLE o2 (k STRING, f FLOAT, m DECIMAL(38,6), sm DECIMAL(38,0), dv INT) WITH ('connector'='print', 'print-identifier'='o2');
INSERT INTO o1 SELECT k, AVG(t) OVER w, AVG(i) OVER w, AVG(v) OVER w, AVG(b) OVER w FROM s WINDOW w AS (PARTITION BY k ORDER BY pt);
INSERT INTO o2 SELECT k, AVG(f) OVER w, AVG(m) OVER w, SUM(m) OVER w, AVG(DISTINCT v) OVER w FROM s WINDOW w AS (PARTITION BY k ORDER BY pt);
