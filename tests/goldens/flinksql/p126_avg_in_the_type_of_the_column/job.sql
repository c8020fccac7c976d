-- case: AVG of integers beside STDDEV or VAR, and with OVER, adds up in the type of the column
-- compare: exact
-- features: avg,stddev,over
CREATE TABLE ev (id INT, k STRING, v INT, t TINYINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector'='filesystem', 'path'='${DIR}/ev.jsonl', 'format'='json');
CREATE TABLE beside (a INT, t TINYINT, b INT) WITH ('connector'='print', 'print-identifier'='beside');
CREATE TABLE alone (a INT, t TINYINT, c BIGINT) WITH ('connector'='print', 'print-identifier'='alone');
CREATE TABLE grouped (k STRING, a INT, d INT, b INT) WITH ('connector'='print', 'print-identifier'='grouped');
CREATE TABLE over_ (a INT, t TINYINT) WITH ('connector'='print', 'print-identifier'='over_');
CREATE TABLE few (a INT) WITH ('connector'='print', 'print-identifier'='few');
INSERT INTO beside SELECT AVG(v), AVG(t), STDDEV_POP(v) FROM ev;
INSERT INTO alone SELECT AVG(v), AVG(t), COUNT(*) FROM ev;
INSERT INTO grouped SELECT k, AVG(v), AVG(DISTINCT v), VAR_SAMP(id) FROM ev GROUP BY k;
INSERT INTO over_ SELECT AVG(v) OVER (ORDER BY ts), AVG(t) OVER (ORDER BY ts) FROM ev;
INSERT INTO few SELECT AVG(v) FILTER (WHERE id > 1) FROM (SELECT v, id FROM ev) HAVING STDDEV_SAMP(v) IS NULL OR COUNT(*) > 0;
