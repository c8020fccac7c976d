-- case: ROW_NUMBER compared with a column
-- compare: steps
-- features: over
CREATE TABLE o (id INT, cust INT, amount INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='o', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE out1_147 (id INT, rn BIGINT) WITH ('connector'='print', 'print-identifier'='out1_147');
INSERT INTO out1_147 SELECT id, rn FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY cust ORDER BY id) AS rn FROM o) WHERE rn <= amount - 4;
