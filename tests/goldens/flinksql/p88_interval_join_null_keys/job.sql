-- case: NULL keys wait in a full interval join
-- compare: steps
-- features: interval join
CREATE TABLE k (id INT, u STRING, v INT, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND) WITH ('connector'='kafka', 'topic'='k', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE TABLE w (id INT, u STRING, q INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector'='kafka', 'topic'='w', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE TABLE o_0024 (f0 INT, f1 STRING, f2 INT, f3 INT) WITH ('connector'='print', 'print-identifier'='o_0024');
INSERT INTO o_0024 SELECT k.id, k.u, w.id, w.q FROM k FULL JOIN w ON k.u = w.u AND w.ts > k.ts + INTERVAL '0' SECOND AND w.ts <= k.ts + INTERVAL '5' SECOND;
