-- Sample data of our own, the same on every run and every server version: every "random" choice is a piece of
-- the md5 of (row number, purpose).
SET search_path TO classicmodels;

CREATE FUNCTION pg_temp.pick(n bigint, purpose text, choices integer) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$
  SELECT ((('x' || substr(md5(n || ':' || purpose), 1, 8))::bit(32)::bigint) % choices)::integer
$$;
CREATE FUNCTION pg_temp.word(n bigint, purpose text, words text[]) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
  SELECT words[1 + pg_temp.pick(n, purpose, cardinality(words))]
$$;

INSERT INTO productlines ("productLine", "textDescription", "htmlDescription", image) VALUES
  ('Classic Cars',     'Touring and sports cars of the fifties and sixties, with doors that open and engines to look at.', NULL, NULL),
  ('Motorcycles',      'Two wheels, a rear stand and a chain that moves: from the first singles to four-cylinder racers.', '<p>Two wheels.</p>', NULL),
  ('Planes',           'Biplanes, airliners and sea planes, each with a stand of its own.', NULL, '\x89504e47'),
  ('Ships',            'Wooden hulls and cotton sails, rigged by hand.', NULL, NULL),
  ('Trains',           'Engines and wagons that run on the common gauges.', NULL, NULL),
  ('Trucks and Buses', 'Whatever carries goods and people: tippers, fire engines, double-deckers.', NULL, NULL),
  ('Vintage Cars',     'Cars from before the war. Spoked wheels, open seats, brass lamps.', NULL, NULL);

INSERT INTO products
SELECT 'S' || (10 + n % 62) || '_' || (1000 + n * 37),
       (1903 + pg_temp.pick(n, 'year', 97)) || ' '
         || pg_temp.word(n, 'maker', ARRAY['Aldermoor','Brightwell','Castellan','Dunmore','Eastgate','Ferrant','Greywing','Halberd','Ironside','Kestrel','Larkspur','Morrow'])
         || ' ' || pg_temp.word(n, 'model', ARRAY['Comet','Falcon','Harrier','Monarch','Nomad','Pioneer','Regent','Sprint','Tempest','Voyager'])
         || ' ' || n,
       (ARRAY['Classic Cars','Motorcycles','Planes','Ships','Trains','Trucks and Buses','Vintage Cars'])[1 + (n % 7)::integer],
       pg_temp.word(n, 'scale', ARRAY['1:10','1:12','1:18','1:24','1:32','1:50','1:72','1:700']),
       pg_temp.word(n, 'vendor', ARRAY['Abel & Sons','Bench Models','Carrow Die Cast','Dockside Replicas','Elm Street Works','Fine Gauge','Gallery of Scale','Highway Minis']),
       'Model ' || n || ': ' || pg_temp.word(n, 'text', ARRAY['hand-painted, limited edition','die-cast body, rubber tyres','with display stand','opening doors and bonnet','numbered on the base']) || '.',
       50 + pg_temp.pick(n, 'stock', 9900),
       round(15 + pg_temp.pick(n, 'buy', 8800) / 100.0, 2),
       round((15 + pg_temp.pick(n, 'buy', 8800) / 100.0) * (1.2 + pg_temp.pick(n, 'markup', 80) / 100.0), 2)
FROM generate_series(1, 110) AS n;

INSERT INTO offices VALUES
  ('1', 'San Francisco', '+1 650 555 0101', '100 Harbour Street', 'Suite 300', 'CA', 'USA',       '94080',    'NA'),
  ('2', 'Boston',        '+1 617 555 0102', '1550 Court Place',   'Suite 102', 'MA', 'USA',       '02107',    'NA'),
  ('3', 'New York',      '+1 212 555 0103', '523 East Road',      'apt. 5A',   'NY', 'USA',       '10022',    'NA'),
  ('4', 'Paris',         '+33 1 5555 0104', '43 rue du Dome',     NULL,        NULL, 'France',    '75017',    'EMEA'),
  ('5', 'Tokyo',         '+81 33 555 0105', '4-1 Kioicho',        NULL,        'Chiyoda-ku', 'Japan', '102-8578', 'Japan'),
  ('6', 'Sydney',        '+61 2 5550 0106', '5-11 Wentworth Ave', 'Floor 2',   NULL, 'Australia', 'NSW 2010', 'APAC'),
  ('7', 'London',        '+44 20 5550 107', '25 Old Broad Row',   'Level 7',   NULL, 'UK',        'EC2N 1HN', 'EMEA');

INSERT INTO employees
SELECT 1000 + n,
       pg_temp.word(n, 'last', ARRAY['Adler','Bianchi','Castro','Dufour','Ekström','Fujita','Grant','Hernandez','Ito','Jensen','Kowalski','Lindqvist']),
       pg_temp.word(n, 'first', ARRAY['Ana','Bruno','Chloé','Daniel','Emi','Felix','Greta','Hugo','Ines','Jonas']),
       'x' || (1000 + pg_temp.pick(n, 'ext', 9000)),
       'e' || (1000 + n) || '@classicmodels.example',
       (1 + n % 7)::text,
       CASE WHEN n = 1 THEN NULL WHEN n <= 4 THEN 1001 ELSE 1002 + n % 3 END,
       CASE WHEN n = 1 THEN 'President' WHEN n <= 4 THEN 'Sales Manager' ELSE 'Sales Rep' END
FROM generate_series(1, 23) AS n;

INSERT INTO customers
SELECT 100 + n * 3,
       pg_temp.word(n, 'name1', ARRAY['Atelier','Signal','Harbour','Corner','Royal','Mini','Golden','Northern','Blue','Family','Toy','Grand'])
         || ' ' || pg_temp.word(n, 'name2', ARRAY['Collectables','Gifts','Replicas','Models','Hobbies','Wheels','Imports','Stores'])
         || ', ' || pg_temp.word(n, 'form', ARRAY['Co.','Ltd','Inc.','GmbH','S.A.','& Sons']) || ' ' || n,
       pg_temp.word(n, 'clast', ARRAY['Schmitt','O''Neil','Ferguson','Labrune','Müller','Nakamura','Piestrzeniewicz','Keitel','Saavedra','Young']),
       pg_temp.word(n, 'cfirst', ARRAY['Carine','Jean','Peter','Janine','Jonas','Roland','Susan','Zbyszek','Diego','Julie']),
       '+' || (1 + pg_temp.pick(n, 'cc', 90)) || ' ' || (1000000 + pg_temp.pick(n, 'phone', 8999999)),
       (1 + pg_temp.pick(n, 'no', 998)) || ' ' || pg_temp.word(n, 'street', ARRAY['Main Street','rue Royale','Hauptstraße','Calle Mayor','Via Roma','High Road']),
       CASE WHEN pg_temp.pick(n, 'line2', 4) = 0 THEN 'Floor ' || (1 + pg_temp.pick(n, 'floor', 9)) END,
       (ARRAY['Nantes','Las Vegas','Melbourne','Oslo','San Rafael','Warszawa','Frankfurt','Madrid','Singapore','Lyon'])[1 + place],
       (ARRAY[NULL,'NV','Victoria',NULL,'CA',NULL,NULL,NULL,NULL,NULL])[1 + place],
       CASE WHEN pg_temp.pick(n, 'zip?', 20) > 0 THEN (10000 + pg_temp.pick(n, 'zip', 89999))::text END,
       (ARRAY['France','USA','Australia','Norway','USA','Poland','Germany','Spain','Singapore','France'])[1 + place],
       CASE WHEN pg_temp.pick(n, 'rep?', 6) > 0 THEN 1005 + pg_temp.pick(n, 'rep', 19) END,
       CASE WHEN pg_temp.pick(n, 'credit?', 12) > 0 THEN round(pg_temp.pick(n, 'credit', 12000000) / 100.0, 2) END
FROM generate_series(1, 130) AS n, LATERAL (SELECT pg_temp.pick(n, 'place', 10)) AS p(place);

INSERT INTO orders
SELECT 10000 + n, day, day + 7,
       CASE WHEN pg_temp.pick(n, 'status', 10) < 8 THEN day + 1 + pg_temp.pick(n, 'ship', 6) END,
       (ARRAY['Shipped','Shipped','Shipped','Shipped','Shipped','Shipped','Shipped','Resolved','In Process','On Hold'])[1 + pg_temp.pick(n, 'status', 10)],
       CASE WHEN pg_temp.pick(n, 'comment', 5) = 0 THEN 'Customer asked for delivery before noon; call ' || n || ' first.' END,
       100 + 3 * (1 + pg_temp.pick(n, 'customer', 130))
FROM generate_series(1, 340) AS n, LATERAL (SELECT DATE '2023-01-06' + (n * 2)::integer) AS d(day);

-- Five to thirteen lines an order; the product codes of one order differ because the step is less than 110.
INSERT INTO orderdetails
SELECT 10000 + o, p."productCode",
       20 + pg_temp.pick(o * 100 + l, 'quantity', 50),
       round(p."MSRP" * (0.80 + pg_temp.pick(o * 100 + l, 'discount', 21) / 100.0), 2),
       l
FROM generate_series(1, 340) AS o
CROSS JOIN LATERAL generate_series(1, 5 + pg_temp.pick(o, 'lines', 9)) AS l
JOIN (SELECT *, row_number() OVER (ORDER BY "productCode" COLLATE "C") - 1 AS position FROM products) AS p
  ON p.position = (pg_temp.pick(o, 'start', 110) + l * 7) % 110;

INSERT INTO payments
SELECT 100 + 3 * (1 + pg_temp.pick(n, 'payer', 130)),
       chr(65 + pg_temp.pick(n, 'letter', 26)) || (100000 + n),
       DATE '2023-01-20' + (n * 2)::integer,
       round(500 + pg_temp.pick(n, 'amount', 9000000) / 100.0, 2)
FROM generate_series(1, 280) AS n;

ANALYZE;
