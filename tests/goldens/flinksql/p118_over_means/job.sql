-- case: AVG over windows of each type
-- compare: exact
-- features: over,avg
CREATE TABLE s (id INT NOT NULL, k STRING, t TINYINT, v INT NOT NULL, f FLOAT, d DOUBLE, m DECIMAL(8,2), w DECIMAL(20,9), pt AS PROCTIME()) WITH ('connector'='filesystem', 'path'='${DIR}/s.jsonl', 'format'='json');
CREATE VIEW means AS SELECT id, AVG(t) OVER w AS tt, AVG(v) OVER w AS av, AVG(f) OVER w AS af, AVG(d) OVER w AS ad, AVG(m) OVER w AS am, AVG(w) OVER w AS aw, AVG(id) OVER w + 1 AS ai, SUM(v) OVER w AS sv FROM s WINDOW w AS (PARTITION BY k ORDER BY pt ROWS BETWEEN 2 PRECEDING AND CURRENT ROW);
CREATE TABLE o1 (id INT, a TINYINT, v INT, f FLOAT, d DOUBLE, m DECIMAL(38,6), w DECIMAL(38,9), i INT, sv INT) WITH ('connector'='print', 'print-identifier'='o1');
INSERT INTO o1 SELECT * FROM means;
