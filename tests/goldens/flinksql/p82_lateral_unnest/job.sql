-- case: UNNEST within LATERAL
-- compare: steps
-- features: lateral,unnest
CREATE TABLE n (id INT, tags ARRAY<STRING>, m MAP<STRING,INT>, rs ARRAY<ROW<a INT, b STRING>>) WITH ('connector'='kafka', 'topic'='n', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE TABLE out1_049 (id INT, t STRING) WITH ('connector'='print', 'print-identifier'='out1_049');
INSERT INTO out1_049 SELECT n.id, t FROM n, LATERAL (SELECT x FROM UNNEST(tags) AS y(x) WHERE x IS NOT NULL) AS z(t);
