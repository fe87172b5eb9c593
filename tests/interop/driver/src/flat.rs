//! A JSON value as a flat list of tokens, so that the transport neither nests, nor reads or
//! prints a number: `{"a": [1, 0.5]}` is `{ ka [ i1 d3fe0000000000000 ] }`.

use serde_json::{Map, Number, Value};

pub type Tokens = Vec<String>;

pub fn flatten(value: &Value) -> Tokens {
    let mut tokens = Tokens::new();
    append(value, &mut tokens);
    tokens
}

fn append(value: &Value, tokens: &mut Tokens) {
    match value {
        Value::Null => tokens.push("n".into()),
        Value::Bool(true) => tokens.push("t".into()),
        Value::Bool(false) => tokens.push("f".into()),
        Value::Number(number) => tokens.push(match number.as_f64() {
            Some(float) if number.is_f64() => format!("d{:016x}", float.to_bits()),
            _ => format!("i{number}"),
        }),
        Value::String(text) => tokens.push(format!("s{text}")),
        Value::Array(items) => {
            tokens.push("[".into());
            items.iter().for_each(|item| append(item, tokens));
            tokens.push("]".into());
        }
        Value::Object(members) => {
            tokens.push("{".into());
            for (key, item) in members {
                tokens.push(format!("k{key}"));
                append(item, tokens);
            }
            tokens.push("}".into());
        }
    }
}

pub fn unflatten(tokens: &[String]) -> Result<Value, String> {
    let mut rest = tokens.iter();
    let value = next_value(&mut rest)?.ok_or("a closing token without an opening one")?;
    match rest.next() {
        None => Ok(value),
        Some(token) => Err(format!("{token:?} after the end")),
    }
}

/// Return the next value, or None for the end of the container around it.
fn next_value(rest: &mut std::slice::Iter<String>) -> Result<Option<Value>, String> {
    let token = rest.next().ok_or("the tokens end too early")?;
    let (kind, text) = token.split_at(1);
    Ok(Some(match kind {
        "n" => Value::Null,
        "t" => Value::Bool(true),
        "f" => Value::Bool(false),
        "i" => Value::Number(integer(text)?),
        "d" => Value::Number(Number::from_f64(float(text)?).ok_or("not a finite number")?),
        "s" => Value::String(text.into()),
        "[" => {
            let mut items = Vec::new();
            while let Some(item) = next_value(rest)? {
                items.push(item);
            }
            Value::Array(items)
        }
        "{" => Value::Object(members(rest)?),
        "]" => return Ok(None),
        _ => return Err(format!("unknown token {token:?}")),
    }))
}

fn members(rest: &mut std::slice::Iter<String>) -> Result<Map<String, Value>, String> {
    let mut found = Map::new();
    loop {
        let token = rest.next().ok_or("the tokens end too early")?;
        match token.split_at(1) {
            ("}", _) => return Ok(found),
            ("k", key) => {
                let value = next_value(rest)?.ok_or("a key without a value")?;
                found.insert(key.into(), value);
            }
            _ => return Err(format!("{token:?} where a key belongs")),
        }
    }
}

fn integer(text: &str) -> Result<Number, String> {
    if let Ok(unsigned) = text.parse::<u64>() {
        return Ok(unsigned.into());
    }
    let signed: i64 = text
        .parse()
        .map_err(|_| format!("{text} is beyond 64 bits"))?;
    Ok(signed.into())
}

pub fn float(bits: &str) -> Result<f64, String> {
    u64::from_str_radix(bits, 16)
        .map(f64::from_bits)
        .map_err(|error| error.to_string())
}
