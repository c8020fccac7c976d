-- case: 0.0 and -0.0 are two groups and two keys; FLOAT and DOUBLE meet in the type of the left side
-- compare: final
-- features: join,group-by,float
CREATE TABLE s (id INT, t FLOAT) WITH ('connector'='filesystem', 'path'='${DIR}/s.jsonl', 'format'='json');
CREATE TABLE q (k INT, t DOUBLE) WITH ('connector'='filesystem', 'path'='${DIR}/q.jsonl', 'format'='json');
CREATE TABLE o (id INT, k INT) WITH ('connector'='print', 'print-identifier'='o');
CREATE TABLE p (id INT, k INT) WITH ('connector'='print', 'print-identifier'='p');
CREATE TABLE g (t DOUBLE, n BIGINT) WITH ('connector'='print', 'print-identifier'='g');
CREATE TABLE o2 (id INT, k INT) WITH ('connector'='print', 'print-identifier'='o2');
CREATE TABLE w (id INT, k INT) WITH ('connector'='print', 'print-identifier'='w');
CREATE TABLE h (n BIGINT) WITH ('connector'='print', 'print-identifier'='h');
INSERT INTO o SELECT id, k FROM s JOIN q ON s.t = q.t;
INSERT INTO p SELECT a.k, b.k FROM q a JOIN q b ON a.t = b.t;
INSERT INTO g SELECT t, COUNT(*) FROM q GROUP BY t;
INSERT INTO o2 SELECT id, k FROM q JOIN s ON q.t = s.t;
INSERT INTO w SELECT id, k FROM q, s WHERE CAST(s.t AS DOUBLE) = q.t;
INSERT INTO h SELECT COUNT(DISTINCT t) FROM q;
