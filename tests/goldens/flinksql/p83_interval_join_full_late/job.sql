-- case: full interval join with a late row
-- compare: multiset
-- features: interval join
CREATE TABLE k (id INT, u STRING, v INT, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND) WITH ('connector'='kafka', 'topic'='k', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE TABLE w (id INT, u STRING, q INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND) WITH ('connector'='kafka', 'topic'='w', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE TABLE out1_073 (a INT, b INT) WITH ('connector'='print', 'print-identifier'='out1_073');
INSERT INTO out1_073 SELECT k.id, w.id FROM k FULL JOIN w ON k.u = w.u AND w.ts BETWEEN k.ts - INTERVAL '3' SECOND AND k.ts + INTERVAL '6' SECOND AND k.v > 2;
