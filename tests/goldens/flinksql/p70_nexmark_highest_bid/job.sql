-- case: NEXMark q7, highest bid per window joined back to the bids; a time attribute inside a regular join
-- compare: final
-- features: kafka,json,window,tumble,join
CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, `dateTime` TIMESTAMP(3), extra STRING, WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND) WITH ('connector'='kafka', 'topic'='bid', 'properties.bootstrap.servers'='localhost:9092', 'properties.group.id'='g1', 'scan.startup.mode'='earliest-offset', 'format'='json');
CREATE TABLE out1 (auction BIGINT, price BIGINT, bidder BIGINT, `dateTime` TIMESTAMP(3), extra STRING) WITH ('connector'='print', 'print-identifier'='out1');
INSERT INTO out1 SELECT B.auction, B.price, B.bidder, B.`dateTime`, B.extra FROM bid B JOIN (
           SELECT MAX(price) AS maxprice, window_end AS `dateTime`
           FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
           GROUP BY window_start, window_end) B1 ON B.price = B1.maxprice
         WHERE B.`dateTime` BETWEEN B1.`dateTime` - INTERVAL '10' SECOND AND B1.`dateTime`;
