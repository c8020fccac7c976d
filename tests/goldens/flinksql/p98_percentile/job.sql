-- case: PERCENTILE over updates, with frequencies, DISTINCT and FILTER, in windows
-- compare: steps
-- features: kafka,percentile,collect,retraction
CREATE TABLE a (id INT, k INT, x INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='a', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE w (id INT, k INT, x INT, ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', WATERMARK FOR ts AS ts, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='a', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE VIEW v AS SELECT k, PERCENTILE(x, 0.3) AS a, PERCENTILE(x, ARRAY[0.0, 0.5, 1.0]) AS b, PERCENTILE(x, 0.5, id) AS c, PERCENTILE(CAST(x AS DECIMAL(10,2)), 0.25) AS d, PERCENTILE(DISTINCT k, 0.5) AS e, PERCENTILE(x, 0.5) FILTER (WHERE id < 4) AS f FROM a GROUP BY k;
CREATE VIEW vg AS SELECT PERCENTILE(CAST(COALESCE(x, 0) AS FLOAT), 1) AS a, PERCENTILE(id, CAST(0.5 AS DOUBLE)) AS b FROM a;
CREATE VIEW vc AS SELECT COLLECT(DISTINCT k) AS m, COLLECT(k) AS n, COUNT(*) AS c FROM a;
CREATE TABLE o (k INT, p DOUBLE, q ARRAY<DOUBLE>, w DOUBLE, d DOUBLE, e DOUBLE, f DOUBLE) WITH ('connector'='print', 'print-identifier'='o');
CREATE TABLE o_g (a DOUBLE, b DOUBLE) WITH ('connector'='print', 'print-identifier'='o_g');
CREATE TABLE o_c (m MULTISET<INT>, n MULTISET<INT>, c BIGINT) WITH ('connector'='print', 'print-identifier'='o_c');
CREATE TABLE o_w (ws TIMESTAMP(3), p DOUBLE, q ARRAY<DOUBLE>) WITH ('connector'='print', 'print-identifier'='o_w');
INSERT INTO o SELECT * FROM v;
INSERT INTO o_g SELECT * FROM vg;
INSERT INTO o_c SELECT * FROM vc;
INSERT INTO o_w SELECT window_start, PERCENTILE(x, 0.5), PERCENTILE(x, ARRAY[0.1, 0.9]) FROM TABLE(TUMBLE(TABLE w, DESCRIPTOR(ts), INTERVAL '4' SECOND)) GROUP BY window_start, window_end;
