//! Internet addresses.

use super::super::error::EvalError;
use super::super::row::Value;
use super::{Call, Scalar};

pub(super) fn lookup(name: &str) -> Option<(Scalar, bool)> {
    Some(match name {
        "INET_ATON" => (inet_aton, true),
        "INET_NTOA" => (inet_ntoa, true),
        _ => return None,
    })
}

/// The number of an IPv4 address; the last part of a short one fills the bytes that are left (`127.1`).
fn inet_aton(call: &Call<'_>) -> Result<Value, EvalError> {
    let parts: Vec<&str> = call.str(0)?.split('.').collect();
    let number = |part: &&str| -> Option<i64> {
        if part.is_empty() || part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        part.parse().ok().filter(|number| *number <= 255)
    };
    let Some(numbers) = parts.iter().map(number).collect::<Option<Vec<i64>>>() else {
        return Ok(Value::Null);
    };
    let (Some((last, front)), 1..=4) = (numbers.split_last(), numbers.len()) else { return Ok(Value::Null) };
    let front = front.iter().zip([24, 16, 8]).map(|(number, shift)| number << shift).sum::<i64>();
    Ok(Value::Int(front + last))
}

/// The IPv4 address of a number.
fn inet_ntoa(call: &Call<'_>) -> Result<Value, EvalError> {
    Ok(match u32::try_from(call.int(0)?) {
        Ok(number) => Value::from(std::net::Ipv4Addr::from(number).to_string()),
        Err(_) => Value::Null,
    })
}
