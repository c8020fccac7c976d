INSERT INTO app.items VALUES (60,'a',1);
-- @stop
INSERT INTO app.items VALUES (61,'down',1);
-- @start
INSERT INTO app.items VALUES (62,'up',1);
-- @idle
