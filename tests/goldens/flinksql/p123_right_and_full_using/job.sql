-- case: the common column of USING is that of the side that has it
-- compare: final
-- features: join,using
CREATE TABLE s (id INT, a STRING, b INT, v INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='filesystem', 'path'='${DIR}/s.jsonl', 'format'='debezium-json');
CREATE TABLE q (id INT, n INT) WITH ('connector'='filesystem', 'path'='${DIR}/q.jsonl', 'format'='json');
CREATE TABLE right_ (id INT, n INT, a STRING) WITH ('connector'='print', 'print-identifier'='right_');
CREATE TABLE star (id INT, a STRING, b INT, v INT, n INT) WITH ('connector'='print', 'print-identifier'='star');
CREATE TABLE grouped (id INT, n BIGINT) WITH ('connector'='print', 'print-identifier'='grouped');
CREATE TABLE expr (e INT, l INT, r INT) WITH ('connector'='print', 'print-identifier'='expr');
CREATE TABLE left_ (id INT, n INT, r INT) WITH ('connector'='print', 'print-identifier'='left_');
INSERT INTO right_ SELECT id, n, a FROM s RIGHT JOIN q USING (id);
INSERT INTO star SELECT * FROM s FULL JOIN q USING (id);
INSERT INTO grouped SELECT id, COUNT(*) FROM s FULL JOIN q USING (id) GROUP BY id;
INSERT INTO expr SELECT id + 1, s.id, q.id FROM s FULL JOIN q USING (id);
INSERT INTO left_ SELECT id, n, q.id FROM s LEFT JOIN q USING (id);
