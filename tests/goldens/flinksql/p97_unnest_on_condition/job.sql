-- case: LEFT JOIN UNNEST ON a condition on the element
-- compare: steps
-- features: kafka,unnest,left-join
CREATE TABLE n (id INT, xs ARRAY<INT>, lim INT, m MAP<STRING, INT>, rs ARRAY<ROW<p INT, q STRING>>) WITH ('connector'='kafka', 'topic'='n', 'properties.bootstrap.servers'='localhost:9092', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE TABLE o_array (id INT, x INT) WITH ('connector'='print', 'print-identifier'='o_array');
CREATE TABLE o_map (id INT, k STRING, v INT) WITH ('connector'='print', 'print-identifier'='o_map');
CREATE TABLE o_rows (id INT, p INT, q STRING) WITH ('connector'='print', 'print-identifier'='o_rows');
CREATE TABLE o_true (id INT, x INT) WITH ('connector'='print', 'print-identifier'='o_true');
INSERT INTO o_array SELECT id, x FROM n LEFT JOIN UNNEST(xs) AS t(x) ON t.x > 4;
INSERT INTO o_map SELECT id, k, v FROM n LEFT JOIN UNNEST(m) AS t(k, v) ON k <> 'a';
INSERT INTO o_rows SELECT id, p, q FROM n LEFT JOIN UNNEST(rs) AS t(p, q) ON p > 1;
INSERT INTO o_true SELECT id, x FROM n LEFT JOIN UNNEST(xs) AS t(x) ON 1 = 1;
