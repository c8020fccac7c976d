CREATE TABLE a (id int PRIMARY KEY, v text); SELECT pg_replication_origin_create('b6 origin2 é') FROM (SELECT 1) s WHERE NOT EXISTS (SELECT 1 FROM pg_replication_origin WHERE roname='b6 origin2 é');
