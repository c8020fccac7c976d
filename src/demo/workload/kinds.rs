//! The kinds of changes the workload is made of.

use super::{Draft, Order, Workload};
use crate::pg::quote::Literal;

/// Texts that go wrong where somebody forgot to quote, escape or count bytes.
const ODD_TEXTS: &[&str] = &[
    "O'Neil \"the\" model maker",
    "back\\slash and \\n",
    "two\nlines\tand a tab",
    "Ærøskøbing — 東京 🚂",
    "",
    "NULL",
    "{\"json\": [1, 2]}",
    "zero\u{1}one, nbsp\u{a0}, bom \u{feff}",
];
const CITIES: &[&str] = &["Nantes", "Oslo", "Las Vegas", "São Paulo", "Kraków", "Singapore", "Lyon"];
const STATUSES: &[&str] = &["In Process", "Shipped", "Resolved", "On Hold", "Disputed", "Cancelled"];

impl Workload {
    /// Adds one change to the transaction.
    pub(super) fn step(&mut self, draft: &mut Draft) {
        match self.random.below(100) {
            0..24 => self.new_order(draft),
            24..38 => self.order_status(draft),
            38..52 => self.line_quantity(draft),
            52..60 => self.customer_details(draft),
            60..69 => self.product_stock(draft),
            69..73 => self.delete_line(draft),
            73..78 => self.delete_order(draft),
            78..82 => self.new_customer(draft),
            82..84 => self.delete_customer(draft),
            84..86 => self.new_product(draft),
            86..91 => self.payment(draft),
            91..94 => self.line_key(draft),
            94..96 => self.order_key(draft),
            96 => self.customer_key(draft),
            97 => self.product_key(draft),
            98 => self.product_line_key(draft),
            _ => self.many_lines(draft),
        }
    }

    fn new_key(&mut self) -> i32 {
        self.model.made += 1;
        self.base.saturating_add(self.model.made)
    }

    fn money(&mut self, top: u32) -> String {
        format!("{}.{:02}", self.random.below(top), self.random.below(100))
    }

    fn new_order(&mut self, draft: &mut Draft) {
        draft.what = "new order";
        let number = self.new_key();
        let customer = self.random.pick(&self.model.customers);
        let day = self.random.below(700);
        let comment = match self.random.below(12) {
            0 => Literal(self.random.pick(ODD_TEXTS)).to_string(),
            1 => {
                // Long and hard to compress, so that it is stored out of line.
                let chunks = self.random.between(80, 250);
                format!(
                    "(SELECT string_agg(md5({number}::text || i), '') FROM generate_series(1, {chunks}) i)"
                )
            }
            _ => "NULL".to_owned(),
        };
        draft.line(format_args!(
            "INSERT INTO classicmodels.orders VALUES ({number}, DATE '2024-01-01' + {day}, DATE '2024-01-08' + {day}, \
             NULL, 'In Process', {comment}, {customer})"
        ));
        let mut order = Order { number, customer, lines: Vec::new(), next_line: 1 };
        let count = self.random.between(1, 9);
        let mut rows = Vec::new();
        for _ in 0..count {
            let (product, _) = self.random.pick(&self.model.products);
            if order.lines.contains(&product) {
                continue;
            }
            let (quantity, price) = (self.random.between(1, 90), self.money(300));
            rows.push(format!("({number}, {}, {quantity}, {price}, {})", Literal(&product), order.next_line));
            order.lines.push(product);
            order.next_line += 1;
        }
        draft.line(format_args!("INSERT INTO classicmodels.orderdetails VALUES {}", rows.join(", ")));
        self.model.orders.push(order);
    }

    fn order_status(&mut self, draft: &mut Draft) {
        draft.what = "order status";
        let number = self.any_order();
        let status = self.random.pick(STATUSES);
        let shipped = if self.random.below(3) == 0 { "NULL" } else { r#""orderDate" + 3"# };
        draft.line(format_args!(
            r#"UPDATE classicmodels.orders SET status = '{status}', "shippedDate" = {shipped} WHERE "orderNumber" = {number}"#
        ));
    }

    fn line_quantity(&mut self, draft: &mut Draft) {
        let Some((number, product)) = self.any_line() else { return self.new_order(draft) };
        draft.what = "order line";
        let (quantity, price) = (self.random.between(1, 500), self.money(900));
        draft.line(format_args!(
            r#"UPDATE classicmodels.orderdetails SET "quantityOrdered" = {quantity}, "priceEach" = {price} WHERE "orderNumber" = {number} AND "productCode" = {}"#,
            Literal(&product)
        ));
    }

    fn customer_details(&mut self, draft: &mut Draft) {
        draft.what = "customer details";
        let number = self.random.pick(&self.model.customers);
        let limit = if self.random.below(6) == 0 { "NULL".to_owned() } else { self.money(200_000) };
        let city = self.random.pick(CITIES);
        let odd = self.random.pick(ODD_TEXTS);
        let text: String = odd.chars().take(40).collect();
        draft.line(format_args!(
            r#"UPDATE classicmodels.customers SET "creditLimit" = {limit}, city = {}, "contactLastName" = {} WHERE "customerNumber" = {number}"#,
            Literal(city),
            Literal(&text)
        ));
    }

    fn product_stock(&mut self, draft: &mut Draft) {
        draft.what = "product stock";
        let (code, _) = self.random.pick(&self.model.products);
        let stock = self.random.below(10_000);
        let line = self.random.pick(&self.model.product_lines);
        // One in eight moves to another product line: the join's key changes.
        if self.random.below(8) == 0 {
            if let Some(product) = self.model.products.iter_mut().find(|p| p.0 == code) {
                product.1.clone_from(&line);
            }
            draft.line(format_args!(
                r#"UPDATE classicmodels.products SET "productLine" = {} WHERE "productCode" = {}"#,
                Literal(&line),
                Literal(&code)
            ));
        } else {
            draft.line(format_args!(
                r#"UPDATE classicmodels.products SET "quantityInStock" = {stock}, "buyPrice" = "buyPrice" + 0.01 WHERE "productCode" = {}"#,
                Literal(&code)
            ));
        }
    }

    fn delete_line(&mut self, draft: &mut Draft) {
        let Some((number, product)) = self.any_line() else { return self.new_order(draft) };
        draft.what = "line deleted";
        if let Some(order) = self.model.orders.iter_mut().find(|o| o.number == number) {
            order.lines.retain(|p| *p != product);
        }
        draft.line(format_args!(
            r#"DELETE FROM classicmodels.orderdetails WHERE "orderNumber" = {number} AND "productCode" = {}"#,
            Literal(&product)
        ));
    }

    fn delete_order(&mut self, draft: &mut Draft) {
        if self.model.orders.len() < 50 {
            return self.new_order(draft);
        }
        draft.what = "order deleted";
        let order = self.model.orders.swap_remove(self.random.index(self.model.orders.len()));
        draft.cascaded += u64::try_from(order.lines.len()).unwrap_or(0);
        draft
            .line(format_args!(r#"DELETE FROM classicmodels.orders WHERE "orderNumber" = {}"#, order.number));
    }

    fn new_customer(&mut self, draft: &mut Draft) {
        draft.what = "new customer";
        let number = self.new_key();
        let odd = self.random.pick(ODD_TEXTS);
        let name: String = format!("Customer {number} {odd}").chars().take(50).collect();
        let city = self.random.pick(CITIES);
        draft.line(format_args!(
            "INSERT INTO classicmodels.customers VALUES ({number}, {}, 'Doe', 'Jo', '+1 555', '1 Main Street', NULL, {}, \
             NULL, NULL, 'France', NULL, {})",
            Literal(&name),
            Literal(city),
            self.money(100_000)
        ));
        self.model.customers.push(number);
    }

    fn delete_customer(&mut self, draft: &mut Draft) {
        let model = &self.model;
        let idle = model.customers.iter().copied().find(|c| {
            model.orders.iter().all(|o| o.customer != *c) && model.payments.iter().all(|p| p.0 != *c)
        });
        let Some(number) = idle else { return self.new_customer(draft) };
        draft.what = "customer deleted";
        self.model.customers.retain(|c| *c != number);
        draft.line(format_args!(r#"DELETE FROM classicmodels.customers WHERE "customerNumber" = {number}"#));
    }

    fn new_product(&mut self, draft: &mut Draft) {
        draft.what = "new product";
        let code = format!("N_{}", self.new_key());
        let line = self.random.pick(&self.model.product_lines);
        let odd = self.random.pick(ODD_TEXTS);
        draft.line(format_args!(
            "INSERT INTO classicmodels.products VALUES ({}, {}, {}, '1:18', 'New Models', 'as new', {}, {}, 99.90)",
            Literal(&code),
            Literal(&format!("Novelty {odd}")),
            Literal(&line),
            self.random.below(900),
            self.money(80)
        ));
        self.model.products.push((code, line));
    }

    fn payment(&mut self, draft: &mut Draft) {
        draft.what = "payment";
        if self.random.below(3) == 0 && self.model.payments.len() > 50 {
            let (customer, check) =
                self.model.payments.swap_remove(self.random.index(self.model.payments.len()));
            draft.line(format_args!(
                r#"DELETE FROM classicmodels.payments WHERE "customerNumber" = {customer} AND "checkNumber" = {}"#,
                Literal(&check)
            ));
            return;
        }
        let customer = self.random.pick(&self.model.customers);
        let check = format!("P{}", self.new_key());
        draft.line(format_args!(
            "INSERT INTO classicmodels.payments VALUES ({customer}, {}, DATE '2024-06-01', {})",
            Literal(&check),
            self.money(50_000)
        ));
        self.model.payments.push((customer, check));
    }

    /// The line's product is exchanged: its key changes.
    fn line_key(&mut self, draft: &mut Draft) {
        let Some((number, old)) = self.any_line() else { return self.new_order(draft) };
        let (new, _) = self.random.pick(&self.model.products);
        let Some(order) = self.model.orders.iter_mut().find(|o| o.number == number) else { return };
        if order.lines.contains(&new) {
            return self.line_quantity(draft);
        }
        draft.what = "key of a line changed";
        if let Some(line) = order.lines.iter_mut().find(|p| **p == old) {
            line.clone_from(&new);
        }
        draft.line(format_args!(
            r#"UPDATE classicmodels.orderdetails SET "productCode" = {} WHERE "orderNumber" = {number} AND "productCode" = {}"#,
            Literal(&new),
            Literal(&old)
        ));
    }

    fn order_key(&mut self, draft: &mut Draft) {
        draft.what = "key of an order changed";
        let new = self.new_key();
        let at = self.random.index(self.model.orders.len());
        let Some(order) = self.model.orders.get_mut(at) else { return };
        let old = std::mem::replace(&mut order.number, new);
        draft.cascaded += u64::try_from(order.lines.len()).unwrap_or(0);
        draft.line(format_args!(
            r#"UPDATE classicmodels.orders SET "orderNumber" = {new} WHERE "orderNumber" = {old}"#
        ));
    }

    fn customer_key(&mut self, draft: &mut Draft) {
        draft.what = "key of a customer changed";
        let new = self.new_key();
        let at = self.random.index(self.model.customers.len());
        let Some(customer) = self.model.customers.get_mut(at) else { return };
        let old = std::mem::replace(customer, new);
        for order in self.model.orders.iter_mut().filter(|o| o.customer == old) {
            order.customer = new;
            draft.cascaded += 1;
        }
        for payment in self.model.payments.iter_mut().filter(|p| p.0 == old) {
            payment.0 = new;
            draft.cascaded += 1;
        }
        draft.line(format_args!(
            r#"UPDATE classicmodels.customers SET "customerNumber" = {new} WHERE "customerNumber" = {old}"#
        ));
    }

    fn product_key(&mut self, draft: &mut Draft) {
        draft.what = "key of a product changed";
        let new = format!("K_{}", self.new_key());
        let at = self.random.index(self.model.products.len());
        let Some(product) = self.model.products.get_mut(at) else { return };
        let old = std::mem::replace(&mut product.0, new.clone());
        for line in self.model.orders.iter_mut().flat_map(|o| o.lines.iter_mut()).filter(|p| **p == old) {
            line.clone_from(&new);
            draft.cascaded += 1;
        }
        draft.line(format_args!(
            r#"UPDATE classicmodels.products SET "productCode" = {} WHERE "productCode" = {}"#,
            Literal(&new),
            Literal(&old)
        ));
    }

    fn product_line_key(&mut self, draft: &mut Draft) {
        draft.what = "key of a product line changed";
        let at = self.random.index(self.model.product_lines.len());
        let key = self.new_key();
        let Some(line) = self.model.product_lines.get_mut(at) else { return };
        let stem = line.split(" #").next().unwrap_or("Line").to_owned();
        let new = format!("{stem} #{key}");
        let old = std::mem::replace(line, new.clone());
        for product in self.model.products.iter_mut().filter(|p| p.1 == old) {
            product.1.clone_from(&new);
            draft.cascaded += 1;
        }
        draft.line(format_args!(
            r#"UPDATE classicmodels.productlines SET "productLine" = {}, "textDescription" = "textDescription" || '.' WHERE "productLine" = {}"#,
            Literal(&new),
            Literal(&old)
        ));
    }

    /// One statement over many rows, as a nightly job would do.
    fn many_lines(&mut self, draft: &mut Draft) {
        draft.what = "many lines in one statement";
        let rest = self.random.below(48);
        draft.line(format_args!(
            r#"UPDATE classicmodels.orderdetails SET "priceEach" = "priceEach" + 0.01 WHERE "orderNumber" % 48 = {rest}"#
        ));
    }

    fn any_order(&mut self) -> i32 {
        let at = self.random.index(self.model.orders.len());
        self.model.orders.get(at).map_or(0, |o| o.number)
    }

    fn any_line(&mut self) -> Option<(i32, String)> {
        // A few tries: orders may have lost all their lines.
        for _ in 0..8 {
            let at = self.random.index(self.model.orders.len());
            if let Some(order) = self.model.orders.get(at).filter(|o| !o.lines.is_empty()) {
                return Some((order.number, self.random.pick(&order.lines)));
            }
        }
        None
    }
}
