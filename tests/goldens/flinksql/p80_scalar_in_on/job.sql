-- case: a scalar subquery in the condition of a join
-- compare: steps
-- features: subquery,join
CREATE TABLE o (id INT, cust INT, amount INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='o', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE c (id INT, name STRING, region STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='c', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE out1_041 (id INT) WITH ('connector'='print', 'print-identifier'='out1_041');
INSERT INTO out1_041 SELECT o.id FROM o JOIN c ON o.cust = c.id AND o.amount > (SELECT MIN(amount) FROM o);
