INSERT INTO txt SELECT (r_ #= hstore('id',(r_.id+100)::text)).* FROM txt AS r_ ORDER BY r_.id;
INSERT INTO dom SELECT (r_ #= hstore('id',(r_.id+100)::text)).* FROM dom AS r_ ORDER BY r_.id;
DELETE FROM txt WHERE id = 1;
DELETE FROM dom WHERE id = 1;
ALTER TABLE txt REPLICA IDENTITY FULL;
ALTER TABLE dom REPLICA IDENTITY FULL;
DELETE FROM txt WHERE id = 101;
DELETE FROM dom WHERE id = 101;
