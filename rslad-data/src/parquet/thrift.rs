//! The compact protocol of Thrift, in which parquet writes what it says of itself.
//!
//! A structure is read whole, fields by number, whatever they mean. What it may cost is bounded before: bytes,
//! values, nesting.
//!
//! Source: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>.

use super::{Result, damaged};
use std::io::Read;

/// The footer of CIFAR-100 in 50 row groups takes 60 KB and 10,000 values.
const MOST_BYTES: usize = 1 << 22;
const MOST_VALUES: usize = 1 << 18;
const MOST_NESTING: usize = 16;

/// A structure: its fields by number.
#[derive(Debug, Default)]
pub(super) struct Struct(Vec<(i64, Value)>);

#[derive(Debug)]
pub(super) enum Value {
    /// Also bytes and truth.
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Struct(Struct),
    /// Of a type that nothing here is written in.
    Other,
}

impl Struct {
    /// Reads a structure.
    pub(super) fn read(reader: &mut dyn Read) -> Result<Self> {
        Compact { reader, bytes: MOST_BYTES, values: MOST_VALUES }.structure(MOST_NESTING)
    }

    fn field(&self, id: i64) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == id).map(|(_, value)| value)
    }

    pub(super) fn int(&self, id: i64) -> Option<i64> {
        if let Some(Value::Int(n)) = self.field(id) { Some(*n) } else { None }
    }

    /// A number of things.
    pub(super) fn count(&self, id: i64) -> Option<usize> {
        self.int(id).and_then(|n| n.try_into().ok())
    }

    pub(super) fn text(&self, id: i64) -> Option<&str> {
        if let Some(Value::Bytes(text)) = self.field(id) { std::str::from_utf8(text).ok() } else { None }
    }

    pub(super) fn structure(&self, id: i64) -> Option<&Struct> {
        if let Some(Value::Struct(inner)) = self.field(id) { Some(inner) } else { None }
    }

    /// The structures of a list.
    pub(super) fn structures(&self, id: i64) -> Option<Vec<&Struct>> {
        let Some(Value::List(items)) = self.field(id) else { return None };
        items.iter().map(|item| if let Value::Struct(inner) = item { Some(inner) } else { None }).collect()
    }
}

struct Compact<'r> {
    reader: &'r mut dyn Read,
    bytes: usize,  // that may still be read
    values: usize, // that may still be made
}

impl Compact<'_> {
    fn structure(&mut self, nesting: usize) -> Result<Struct> {
        let nesting = nesting.checked_sub(1).ok_or_else(|| damaged("it nests too deeply"))?;
        let (mut fields, mut last) = (Vec::new(), 0i64);
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(Struct(fields));
            }
            last = match head >> 4 {
                0 => self.number()?,
                step => {
                    last.checked_add(step.into()).ok_or_else(|| damaged("a field of more than 64 bits"))?
                }
            };
            let value = match head & 15 {
                1 => Value::Int(1), // true and false are in the head
                2 => Value::Int(0),
                kind => self.value(kind, nesting)?,
            };
            self.spend()?;
            fields.push((last, value));
        }
    }

    fn value(&mut self, kind: u8, nesting: usize) -> Result<Value> {
        Ok(match kind {
            1..=3 => Value::Int(i64::from(self.byte()? as i8)),
            4..=6 => Value::Int(self.number()?),
            7 => self.take(8).map(|_| Value::Other)?,
            8 => {
                let n = self.size()?;
                Value::Bytes(self.take(n)?)
            }
            9 | 10 => self.list(nesting)?,
            12 => Value::Struct(self.structure(nesting)?),
            13 => self.take(16).map(|_| Value::Other)?,
            _ => return Err(damaged(format!("type {kind} in its description"))), // maps do not occur
        })
    }

    fn list(&mut self, nesting: usize) -> Result<Value> {
        let nesting = nesting.checked_sub(1).ok_or_else(|| damaged("it nests too deeply"))?;
        let head = self.byte()?;
        let n = match head >> 4 {
            15 => self.size()?,
            n => n.into(),
        };
        let mut items = Vec::new();
        for _ in 0..n {
            self.spend()?;
            items.push(self.value(head & 15, nesting)?);
        }
        Ok(Value::List(items))
    }

    fn size(&mut self) -> Result<usize> {
        let n = self.varint()?;
        usize::try_from(n).map_err(|_| damaged(format!("a size of {n}")))
    }

    /// A signed number: 0, -1, 1, -2 and so on.
    fn number(&mut self) -> Result<i64> {
        self.varint().map(|n| (n >> 1) as i64 ^ -((n & 1) as i64))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(damaged("a number of more than 64 bits"))
    }

    fn byte(&mut self) -> Result<u8> {
        self.pay(1)?;
        let mut byte = [0];
        self.reader.read_exact(&mut byte).map_err(damaged)?;
        Ok(byte[0])
    }

    fn take(&mut self, n: usize) -> Result<Vec<u8>> {
        self.pay(n)?;
        let mut bytes = Vec::new();
        self.reader.take(n as u64).read_to_end(&mut bytes).map_err(damaged)?;
        if bytes.len() == n { Ok(bytes) } else { Err(damaged("its description ends too early")) }
    }

    fn pay(&mut self, n: usize) -> Result<()> {
        let left = self.bytes.checked_sub(n);
        self.bytes = left.ok_or_else(|| damaged(format!("a description of more than {MOST_BYTES} bytes")))?;
        Ok(())
    }

    fn spend(&mut self) -> Result<()> {
        let left = self.values.checked_sub(1);
        self.values = left.ok_or_else(|| damaged(format!("more than {MOST_VALUES} values describe it")))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Field 1: -3 (i32); field 2: "ab"; field 3: a list of two structures {1: true}; field 20: 300 (i64).
    const FIELDS: &[u8] =
        &[0x15, 5, 0x18, 2, b'a', b'b', 0x19, 0x2c, 0x11, 0, 0x11, 0, 0x06, 40, 0xd8, 0x04, 0];

    #[test]
    fn fields_are_found_by_number() {
        let fields = Struct::read(&mut &FIELDS[..]).expect("a structure");
        assert_eq!((fields.int(1), fields.text(2), fields.int(20)), (Some(-3), Some("ab"), Some(300)));
        let inner = fields.structures(3).expect("a list");
        assert_eq!((inner.len(), inner[1].int(1)), (2, Some(1)));
        assert_eq!((fields.count(1), fields.int(2), fields.int(4)), (None, None, None));
    }

    #[test]
    fn what_ends_early_nests_deeply_or_claims_much_is_refused() {
        let refused = |bytes: &[u8], part: &str| {
            let said = Struct::read(&mut &bytes[..]).expect_err(part);
            assert!(said.contains(part), "{said}");
        };
        (0..FIELDS.len()).for_each(|n| refused(&FIELDS[..n], "damaged or no parquet file"));
        refused(&[0x1c; 100], "nests too deeply");
        refused(&[0x19; 100], "nests too deeply"); // lists of lists of lists
        refused(&[0x1b], "type 11"); // a map
        let last = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]; // field 2^63 - 1
        refused(&[&[0x05][..], &last, &[0, 0x15, 0, 0]].concat(), "a field of more than 64 bits");
        refused(&[0x18, 0xff, 0xff, 0xff, 0xff, 0x0f], "more than 4194304 bytes");
        refused(&[0x19, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x0f], "damaged or no parquet file"); // it ends early
        refused(&[0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "64 bits");
        let many = [vec![0x19, 0xf3, 0xff, 0xff, 0xff, 0x0f], vec![0; 1 << 19]].concat();
        refused(&many, "more than 262144 values");
    }
}
