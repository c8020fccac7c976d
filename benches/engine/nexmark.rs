//! Events of an auction house, in the manner of NEXMark: of fifty, one person, three auctions, 46 bids.
//!
//! The queries are NEXMark's, the generator is our own: the same shares and orders of magnitude, not the same
//! numbers. A seed makes every run the same.

use millstream::engine::row::{Change, Instant, RowKind, Value};

/// The tables, with the watermark that NEXMark's queries use.
pub const TABLES: &str = "
CREATE TABLE person (id BIGINT, name STRING, emailAddress STRING, creditCard STRING, city STRING, state STRING,
  dateTime TIMESTAMP(3), extra STRING, WATERMARK FOR dateTime AS dateTime - INTERVAL '4' SECOND)
  WITH ('connector'='filesystem', 'path'='person', 'format'='json');
CREATE TABLE auction (id BIGINT, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT,
  dateTime TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra STRING,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4' SECOND)
  WITH ('connector'='filesystem', 'path'='auction', 'format'='json');
CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, dateTime TIMESTAMP(3),
  extra STRING, WATERMARK FOR dateTime AS dateTime - INTERVAL '4' SECOND)
  WITH ('connector'='filesystem', 'path'='bid', 'format'='json');
";

/// NEXMark's q6 is no Flink SQL (OVER on an updating input); the set is q0 to q5, q7, q8.
pub const QUERIES: &[(&str, &str)] = &[
    ("q0 pass through", "SELECT auction, bidder, price, dateTime, extra FROM bid"),
    ("q1 currency", "SELECT auction, bidder, 0.908 * price, dateTime, extra FROM bid"),
    ("q2 selection", "SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0"),
    (
        "q3 local items",
        "SELECT P.name, P.city, P.state, A.id FROM auction AS A INNER JOIN person AS P ON A.seller = P.id
         WHERE A.category = 10 AND (P.state = 'OR' OR P.state = 'ID' OR P.state = 'CA')",
    ),
    (
        "q4 average price",
        "SELECT Q.category, AVG(Q.final) FROM (
           SELECT MAX(B.price) AS final, A.category FROM auction A, bid B
           WHERE A.id = B.auction AND B.dateTime BETWEEN A.dateTime AND A.expires
           GROUP BY A.id, A.category) Q GROUP BY Q.category",
    ),
    (
        "q5 hot items",
        "SELECT AuctionBids.auction, AuctionBids.num FROM (
           SELECT auction, count(*) AS num, window_start, window_end
           FROM TABLE(HOP(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
           GROUP BY auction, window_start, window_end) AS AuctionBids
         JOIN (
           SELECT max(CountBids.num) AS maxn, CountBids.window_start, CountBids.window_end FROM (
             SELECT count(*) AS num, window_start, window_end
             FROM TABLE(HOP(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
             GROUP BY auction, window_start, window_end) AS CountBids
           GROUP BY CountBids.window_start, CountBids.window_end) AS MaxBids
         ON AuctionBids.window_start = MaxBids.window_start AND AuctionBids.window_end = MaxBids.window_end
            AND AuctionBids.num >= MaxBids.maxn",
    ),
    (
        "q7 highest bid",
        "SELECT B.auction, B.price, B.bidder, B.dateTime, B.extra FROM bid B JOIN (
           SELECT MAX(price) AS maxprice, window_end AS dateTime
           FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '10' SECOND))
           GROUP BY window_start, window_end) B1 ON B.price = B1.maxprice
         WHERE B.dateTime BETWEEN B1.dateTime - INTERVAL '10' SECOND AND B1.dateTime",
    ),
    (
        "q8 new users",
        "SELECT P.id, P.name, P.window_start FROM (
           SELECT id, name, window_start, window_end
           FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(dateTime), INTERVAL '10' SECOND))
           GROUP BY id, name, window_start, window_end) P
         JOIN (
           SELECT seller, window_start, window_end
           FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(dateTime), INTERVAL '10' SECOND))
           GROUP BY seller, window_start, window_end) A
         ON P.id = A.seller AND P.window_start = A.window_start AND P.window_end = A.window_end",
    ),
];

const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const CITIES: [&str; 5] = ["Phoenix", "Los Angeles", "Boise", "Portland", "Seattle"];
const CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

/// Where an event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    Person,
    Auction,
    Bid,
}

/// Makes events, ten thousand a second of their own time.
pub struct Generator {
    number: u64,
    random: u64,
}

impl Generator {
    /// From the first event.
    pub fn new() -> Self {
        Self { number: 0, random: 0x9e37_79b9_7f4a_7c15 }
    }

    fn below(&mut self, limit: u64) -> i64 {
        // Xorshift.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        i64::try_from(self.random % limit.max(1)).unwrap_or_default()
    }

    fn pick(&mut self, words: &[&str]) -> Value {
        let at = usize::try_from(self.below(words.len() as u64)).unwrap_or_default();
        Value::str(words.get(at).copied().unwrap_or_default())
    }

    /// The next event: its table, its columns by name.
    pub fn next(&mut self, columns: &[Vec<String>; 3]) -> (Table, Change) {
        let number = self.number;
        self.number += 1;
        let (round, place) = (number / 50, number % 50);
        let now = 1_700_000_000_000 + i64::try_from(number / 10).unwrap_or_default();
        let time = |millis: i64| Value::Timestamp(Instant::from_millis(millis));
        let (table, last_auction, last_person) = match place {
            0 => (Table::Person, round * 3, round),
            1..=3 => (Table::Auction, round * 3 + place - 1, round),
            _ => (Table::Bid, round * 3 + 2, round),
        };
        let last = |id: u64| i64::try_from(id).unwrap_or_default();
        let mut column = |name: &str| -> Value {
            match name {
                "id" if table == Table::Person => Value::Int(1000 + last(last_person)),
                "id" => Value::Int(1000 + last(last_auction)),
                "dateTime" => time(now),
                "expires" => time(now + 500 + self.below(4000)),
                // Most go to what is hot: a few auctions and people of the last ones.
                "auction" if self.below(2) == 0 => Value::Int(1000 + last(last_auction) / 100 * 100),
                "auction" => Value::Int(1000 + (last(last_auction) - self.below(100)).max(0)),
                "bidder" | "seller" if self.below(4) > 0 => Value::Int(1000 + last(last_person) / 100 * 100),
                "bidder" | "seller" => Value::Int(1000 + (last(last_person) - self.below(1000)).max(0)),
                "price" | "initialBid" | "reserve" => Value::Int(100 + self.below(1_000_000)),
                "category" => Value::Int(10 + self.below(5)),
                "state" => self.pick(&STATES),
                "city" => self.pick(&CITIES),
                "channel" => self.pick(&CHANNELS),
                "url" => Value::str("https://www.nexmark.com/item.htm?query=1&channel_id=42"),
                "name" | "itemName" => Value::str("a name of two"),
                "emailAddress" => Value::str("someone@example.com"),
                "creditCard" => Value::str("1234 5678 9012 3456"),
                _ => Value::str("padding of the length that events have"),
            }
        };
        let names = match table {
            Table::Person => &columns[0],
            Table::Auction => &columns[1],
            Table::Bid => &columns[2],
        };
        let row: Vec<Value> = names.iter().map(|name| column(name)).collect();
        (table, Change::new(RowKind::Insert, row))
    }
}
