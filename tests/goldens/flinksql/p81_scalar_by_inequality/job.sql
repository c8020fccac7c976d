-- case: a scalar subquery that depends on the query around by an inequality
-- compare: steps
-- features: subquery,correlated
CREATE TABLE o (id INT, cust INT, amount INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='o', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE c (id INT, name STRING, region STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='c', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE out1_042 (id INT, n BIGINT) WITH ('connector'='print', 'print-identifier'='out1_042');
INSERT INTO out1_042 SELECT id, (SELECT COUNT(*) FROM o WHERE o.amount < c.id) FROM c;
