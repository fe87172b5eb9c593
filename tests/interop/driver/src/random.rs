//! Seeded random checkpoints, made without reading a number or a string from any text.

use serde_json::{json, Map, Number, Value};

const MAX_DEPTH: u32 = 127;

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn choice<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn integer(&mut self) -> Number {
        match self.below(4) {
            0 => self
                .choice(&[0, 1, u64::MAX, u64::MAX - 1, 1 << 63, 1 << 53])
                .into(),
            1 => self
                .choice(&[i64::MIN, i64::MIN + 1, i64::MAX, -1, -(1 << 53)])
                .into(),
            2 => self.next().into(),
            _ => (self.next() as i64 >> self.below(64)).into(),
        }
    }

    pub fn float(&mut self) -> f64 {
        let edges = [
            0.0,
            -0.0,
            5e-324,
            -5e-324,
            f64::MAX,
            f64::MIN,
            f64::MIN_POSITIVE,
            1e15,
            1e16,
            1e17,
            1e21,
            1e-4,
            1e-5,
            1e-6,
            1e-7,
            0.1,
            1.0 / 3.0,
            9007199254740993.0,
            1e308,
            1e-308,
        ];
        match self.below(6) {
            0 => self.choice(&edges),
            1 => self.unit(),
            2 => 1.7e9 + self.unit() * 1e8,
            3 => (self.unit() * 1e6).round() / 1e4,
            4 => self.below(1 << 53) as f64,
            _ => match f64::from_bits(self.next()) {
                float if float.is_finite() => float,
                _ => 1.5,
            },
        }
    }

    fn text(&mut self) -> String {
        let length = self.choice(&[0, 1, 2, 5, 30]);
        (0..length).map(|_| self.character()).collect()
    }

    fn character(&mut self) -> char {
        let code = match self.below(5) {
            0 => self.below(0x20),
            1 => u64::from(
                self.choice(&['"', '\\', '/', '\u{7f}', '\u{2028}', '\u{feff}', '\u{ffff}']),
            ),
            2 => 0x1_0000 + self.below(0x10_0000),
            3 => self.below(0x800),
            _ => 0x20 + self.below(0x5f),
        };
        char::from_u32(code as u32).unwrap_or('\u{fffd}')
    }

    fn leaf(&mut self) -> Value {
        match self.below(6) {
            0 => Value::Null,
            1 => Value::Bool(self.below(2) == 0),
            2 => Value::Number(self.integer()),
            3 => json!(self.float()),
            _ => Value::String(self.text()),
        }
    }

    /// Return a value of at most `depth` containers inside one another.
    fn value(&mut self, depth: u32) -> Value {
        match self.below(3) {
            0 if depth > 0 => {
                let count = self.below(4);
                Value::Array((0..count).map(|_| self.value(depth - 1)).collect())
            }
            1 if depth > 0 => {
                let count = self.below(4);
                let members = (0..count).map(|_| (self.text(), self.value(depth - 1)));
                Value::Object(members.collect::<Map<_, _>>())
            }
            _ => self.leaf(),
        }
    }

    /// Return `depth` containers inside one another.
    fn tower(&mut self, depth: u32) -> Value {
        (0..depth).fold(self.leaf(), |inner, _| match self.below(2) {
            0 => Value::Array(vec![inner]),
            _ => json!({ self.text(): inner }),
        })
    }

    /// Return the `CheckpointData` of the given ids, as a JSON value.
    pub fn checkpoint(&mut self, session_id: &str, checkpoint_id: &str) -> Value {
        let seconds = self.below(4_000_000_000) as i64;
        let nanoseconds = self.choice(&[0, 1, 120_000_000, 123_456_000, 999_999_999]);
        let created_at = chrono::DateTime::from_timestamp(seconds, nanoseconds).unwrap();
        let mut messages: Vec<Value> = (0..self.below(6)).map(|_| self.value(5)).collect();
        if self.below(10) == 0 {
            messages.push(self.tower(MAX_DEPTH - 2));
        }
        json!({
            "checkpoint_id": checkpoint_id,
            "session_id": session_id,
            "created_at": created_at,
            "trigger": self.text(),
            "iteration": self.next() as i32,
            "messages": messages,
            "tool_calls_pending": [self.value(3), {}, []],
            "tool_results": self.value(5),
            "tokens_used": self.next() as i64,
            "cost_estimate": self.float(),
            "resume_hint": if self.below(2) == 0 { None } else { Some(self.text()) },
        })
    }
}
