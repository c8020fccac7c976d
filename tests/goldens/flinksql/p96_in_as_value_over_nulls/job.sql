-- case: IN (query) as a value: unknown where a NULL leaves it open, correlated and under NOT
-- compare: steps
-- features: kafka,in-subquery,null-semantics,correlated
CREATE TABLE a (id INT, k INT, x INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='a', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE b (id INT, k INT, x INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='b', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE o_or (id INT, x INT) WITH ('connector'='print', 'print-identifier'='o_or');
CREATE TABLE o_select (id INT, x INT, t BOOLEAN) WITH ('connector'='print', 'print-identifier'='o_select');
CREATE TABLE o_not (id INT, x INT) WITH ('connector'='print', 'print-identifier'='o_not');
CREATE TABLE o_case (id INT, x INT, t STRING) WITH ('connector'='print', 'print-identifier'='o_case');
CREATE TABLE o_greater (id INT, x INT) WITH ('connector'='print', 'print-identifier'='o_greater');
INSERT INTO o_or SELECT id, x FROM a WHERE a.id = 1 OR a.x NOT IN (SELECT b.x FROM b WHERE b.k = a.k);
INSERT INTO o_select SELECT id, x, a.x IN (SELECT b.x FROM b WHERE b.k = a.k) FROM a;
INSERT INTO o_not SELECT id, x FROM a WHERE NOT (a.id = 99 OR a.x IN (SELECT b.x FROM b WHERE b.k = a.k));
INSERT INTO o_case SELECT id, x, CASE WHEN a.x IN (SELECT b.x FROM b WHERE b.k = a.k) THEN 'yes' WHEN a.x NOT IN (SELECT b.x FROM b WHERE b.k = a.k) THEN 'no' ELSE 'unknown' END FROM a;
INSERT INTO o_greater SELECT id, x FROM a WHERE id = 1 OR a.x NOT IN (SELECT b.x FROM b WHERE b.id > a.id + 97);
