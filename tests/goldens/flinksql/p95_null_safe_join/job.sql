-- case: IS NOT DISTINCT FROM as a join key: NULL meets NULL
-- compare: steps
-- features: kafka,join,null-semantics,semi-join,anti-join
CREATE TABLE a (id INT, k INT, x INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='a', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE b (id INT, k INT, x INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='b', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE o_in (id INT, x INT, bid INT) WITH ('connector'='print', 'print-identifier'='o_in');
CREATE TABLE o_left (id INT, x INT, bid INT) WITH ('connector'='print', 'print-identifier'='o_left');
CREATE TABLE o_semi (id INT, x INT) WITH ('connector'='print', 'print-identifier'='o_semi');
CREATE TABLE o_anti (id INT, x INT) WITH ('connector'='print', 'print-identifier'='o_anti');
CREATE TABLE o_full (id INT, x INT, bid INT, k INT) WITH ('connector'='print', 'print-identifier'='o_full');
INSERT INTO o_in SELECT a.id, a.x, b.id FROM a JOIN b ON a.x IS NOT DISTINCT FROM b.x;
INSERT INTO o_left SELECT a.id, a.x, b.id FROM a LEFT JOIN b ON a.x IS NOT DISTINCT FROM b.x AND a.k = b.k;
INSERT INTO o_semi SELECT id, x FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.x IS NOT DISTINCT FROM a.x);
INSERT INTO o_anti SELECT id, x FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.x IS NOT DISTINCT FROM a.x AND b.k = a.k);
INSERT INTO o_full SELECT a.id, a.x, b.id, b.k FROM a FULL JOIN b ON a.x IS NOT DISTINCT FROM b.x AND a.k IS NOT DISTINCT FROM b.k;
