-- case: aggregates of rows that leave the frame
-- compare: exact
CREATE TABLE s (id INT, k STRING, v INT, d DOUBLE, t STRING, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '3' SECOND) WITH ('connector'='filesystem', 'path'='${DIR}/s.jsonl', 'format'='json');
CREATE TABLE o1 (id INT, a BIGINT, b INT, c STRING, d STRING, e DOUBLE, f DOUBLE, g INT, h INT) WITH ('connector'='print', 'print-identifier'='o1');
CREATE TABLE o2 (id INT, a BIGINT, b INT, c STRING, d STRING, e DOUBLE, f DOUBLE, g INT, h INT) WITH ('connector'='print', 'print-identifier'='o2');
CREATE TABLE o3 (id INT, a BIGINT, b INT, c STRING, d STRING, e DOUBLE, f DOUBLE, g INT, h INT) WITH ('connector'='print', 'print-identifier'='o3');
INSERT INTO o1 SELECT id, COUNT(DISTINCT v) OVER w, MIN(v) OVER w, MAX(t) OVER w, LISTAGG(t) OVER w, SUM(d) OVER w, AVG(d) OVER w, FIRST_VALUE(v) OVER w, LAST_VALUE(v) OVER w FROM s WINDOW w AS (PARTITION BY k ORDER BY ts ROWS BETWEEN 2 PRECEDING AND CURRENT ROW);
INSERT INTO o2 SELECT id, COUNT(DISTINCT v) OVER w, MIN(v) OVER w, MAX(t) OVER w, LISTAGG(t) OVER w, SUM(d) OVER w, AVG(d) OVER w, FIRST_VALUE(v) OVER w, LAST_VALUE(v) OVER w FROM s WINDOW w AS (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '3' SECOND PRECEDING AND CURRENT ROW);
INSERT INTO o3 SELECT id, COUNT(DISTINCT v) OVER w, MIN(v) OVER w, MAX(t) OVER w, LISTAGG(t) OVER w, SUM(d) OVER w, AVG(d) OVER w, FIRST_VALUE(v) OVER w, LAST_VALUE(v) OVER w FROM s WINDOW w AS (ORDER BY ts);
