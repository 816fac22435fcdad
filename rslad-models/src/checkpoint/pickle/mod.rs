//! A machine for the part of Python's pickle language that state dicts and arrays are written in.
//!
//! A pickle is a program for a small stack machine, and Python's runs whatever function the program names.
//! This one calls nothing: a name that is not on a short list (a [`Vocabulary`]) ends the reading, and what
//! the list holds becomes data. What a program can cost is bounded before it runs: operations, nesting, the
//! length of a string; values refer to each other by place and text stays where it is in the file, so memory
//! grows by a few bytes an operation.
//!
//! Source: the comments of CPython's `Lib/pickletools.py`. Protocols 2 to 5 are read, which is what
//! `torch.save` has ever written by default.

mod value;

pub use value::{Id, Pickle, Value};

use super::bytes::Bytes;
use super::fault::Fault;

/// A state dict of the largest published network takes 30,000 operations, with its optimizer 100,000.
const MOST_OPERATIONS: usize = 1_000_000;
const MOST_NESTING: u8 = 64;

/// The names that pickles of one kind may refer to. Each becomes a mark that the reader of the kind gives a
/// meaning; none is ever called.
pub trait Vocabulary: Copy + std::fmt::Debug {
    /// The longest string: not what it costs, since strings stay where they are in the file, but what is plausible.
    const LONGEST_STRING: usize;

    /// The name, if it is on the list.
    fn find(module: &str, name: &str) -> Option<Self>;

    /// What calling it makes.
    ///
    /// # Errors
    /// When nothing that the reader understands would come of it.
    fn called(self) -> Result<Made, Fault>;
}

/// What a called name makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// A [`Value::Call`], kept for the reader.
    Call,
    /// A dictionary.
    Mapping,
    /// Something that is passed over.
    Nothing,
}

/// Runs the pickle that `bytes` begin with; also says how many bytes it takes. `what` names them where they
/// end too early.
///
/// # Errors
/// When it is damaged, names what is not on the list, or exceeds a limit.
pub fn read<'a, V: Vocabulary>(bytes: &'a [u8], what: &'static str) -> Result<(Pickle<'a, V>, usize), Fault> {
    let mut machine = Machine {
        bytes: Bytes::new(bytes, what),
        values: Vec::new(),
        depths: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        spent: 0,
    };
    loop {
        machine.spend(1)?;
        let operation = machine.bytes.u8()?;
        if operation == b'.' {
            let top = machine.pop()?;
            return Ok((Pickle { values: machine.values, top }, machine.bytes.at()));
        }
        machine.step(operation)?;
    }
}

struct Machine<'a, V> {
    bytes: Bytes<'a>,
    values: Vec<Value<'a, V>>,
    depths: Vec<u8>, // of each value: how deeply it nests
    stack: Vec<Id>,
    marks: Vec<usize>, // heights of the stack
    memo: Vec<Option<Id>>,
    spent: usize, // operations, and copies that one operation makes of what others made
}

impl<'a, V: Vocabulary> Machine<'a, V> {
    fn spend(&mut self, n: usize) -> Result<(), Fault> {
        self.spent += n;
        if self.spent <= MOST_OPERATIONS {
            return Ok(());
        }
        Err(Fault::limit("a pickle of more operations", MOST_OPERATIONS))
    }

    fn step(&mut self, operation: u8) -> Result<(), Fault> {
        match operation {
            0x80 => self.protocol(),
            0x95 => self.bytes.u64().map(drop), // FRAME: a hint on how much to read at once
            b'(' => self.mark(),
            b'0' => self.pop().map(drop),
            b'1' => self.since_mark().map(drop),
            b'2' => self.last().map(|id| self.stack.push(id)),
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool(operation == 0x88)),
            b'K' | b'M' | b'J' | 0x8a | 0x8b => self.integer(operation),
            b'G' => self.bytes.take(8).and_then(|_| self.push(Value::Float)),
            b'X' | b'T' | b'B' | b'U' | b'C' | 0x8c | 0x8d | 0x8e => self.string(operation),
            b')' => self.push(Value::Tuple(Box::default())),
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(operation - 0x84))?;
                self.push_container(Value::Tuple(items.into()))
            }
            b't' => {
                let items = self.since_mark()?;
                self.push_container(Value::Tuple(items.into()))
            }
            b']' => self.push(Value::List(Vec::new())),
            b'l' => {
                let items = self.since_mark()?;
                self.push_container(Value::List(items))
            }
            b'a' => self.pop().and_then(|item| self.append(&[item])),
            b'e' => self.since_mark().and_then(|items| self.append(&items)),
            b'}' => self.push(Value::Dict(Vec::new())),
            b'd' => {
                let items = self.since_mark()?;
                self.push(Value::Dict(Vec::new()))?;
                self.set(&items)
            }
            b's' => self.pop_many(2).and_then(|items| self.set(&items)),
            b'u' => self.since_mark().and_then(|items| self.set(&items)),
            0x8f => self.push(Value::Opaque), // an empty set
            0x90 => self.since_mark().map(drop),
            0x91 => self.since_mark().and_then(|_| self.push(Value::Opaque)),
            b'c' => {
                let (module, name) = (self.bytes.line()?, self.bytes.line()?);
                self.global(module, name)
            }
            0x93 => {
                let names = self.pop_many(2)?;
                let text = |id: Id| match &self.values[id.0 as usize] {
                    Value::Str(text) => Ok(text.as_bytes()),
                    other => Err(Fault::damaged(format!("{} names a module", other.noun()))),
                };
                let (module, name) = (text(names[0])?, text(names[1])?);
                self.global(module, name)
            }
            b'R' | 0x81 => {
                let args = self.pop()?;
                self.call(args)
            }
            0x92 => {
                let args = self.pop_many(2)?; // the second are keyword arguments
                self.call(args[0])
            }
            b'b' => self.build(),
            b'q' => self.bytes.u8().and_then(|at| self.put(at.into())),
            b'r' => self.bytes.u32().and_then(|at| self.put(at as usize)),
            0x94 => self.put(self.memo.len()),
            b'h' => self.bytes.u8().and_then(|at| self.get(at.into())),
            b'j' => self.bytes.u32().and_then(|at| self.get(at as usize)),
            b'Q' => {
                let id = self.pop()?;
                self.push_container(Value::Persistent(id))
            }
            b'p' | b'g' | b'I' | b'L' | b'F' | b'S' | b'V' | b'P' => Err(Fault::Unsupported(
                "is written in pickle protocol 0 or 1, which is not read; save it again with the default protocol"
                    .into(),
            )),
            b'i' | b'o' | 0x82..=0x84 => {
                Err(Fault::Unsupported("holds an object of a class, expected tensors or arrays".into()))
            }
            _ => Err(Fault::damaged(format!(
                "0x{operation:02x} at byte {} of its pickle is not an operation",
                self.bytes.at() - 1
            ))),
        }
    }

    fn protocol(&mut self) -> Result<(), Fault> {
        match self.bytes.u8()? {
            0..=5 => Ok(()),
            newer => Err(Fault::Unsupported(format!("has pickle protocol {newer}, expected 2 to 5"))),
        }
    }

    fn integer(&mut self, operation: u8) -> Result<(), Fault> {
        let n = match operation {
            b'K' => i64::from(self.bytes.u8()?),
            b'M' => i64::from(self.bytes.u16()?),
            b'J' => i64::from(i32::from_le_bytes(self.bytes.array()?)),
            _ => {
                let length =
                    if operation == 0x8a { self.bytes.u8()?.into() } else { self.bytes.u32()? as usize };
                let digits = self.bytes.take(length)?; // two's complement, the lowest byte first
                if length > 8 {
                    return self.push(Value::Opaque);
                }
                let negative = digits.last().is_some_and(|&high| high & 0x80 != 0);
                let mut wide = [if negative { 0xff } else { 0 }; 8];
                wide[..length].copy_from_slice(digits);
                i64::from_le_bytes(wide)
            }
        };
        self.push(Value::Int(n))
    }

    fn string(&mut self, operation: u8) -> Result<(), Fault> {
        let length = match operation {
            b'U' | b'C' | 0x8c => usize::from(self.bytes.u8()?),
            0x8d | 0x8e => self.bytes.count()?,
            _ => self.bytes.u32()? as usize,
        };
        if length > V::LONGEST_STRING {
            return Err(Fault::limit(format!("a string of {length} bytes"), V::LONGEST_STRING));
        }
        let bytes = self.bytes.take(length)?;
        let is_bytes = matches!(operation, b'B' | b'C' | 0x8e);
        match std::str::from_utf8(bytes) {
            Ok(text) if !is_bytes => self.push(Value::Str(text)),
            _ => self.push(Value::Bytes(bytes)), // or a Python 2 string of them
        }
    }

    fn global(&mut self, module: &[u8], name: &[u8]) -> Result<(), Fault> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (module, name) = (text(module), text(name));
        match V::find(&module, &name) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(Fault::Refused(format!("{module}.{name}").escape_debug().take(200).collect())),
        }
    }

    /// What the function or class on the stack makes of `args`.
    fn call(&mut self, args: Id) -> Result<(), Fault> {
        let function = self.pop()?;
        let Value::Global(function) = self.values[function.0 as usize] else {
            let noun = self.values[function.0 as usize].noun();
            return Err(Fault::damaged(format!("it calls {noun}")));
        };
        match function.called()? {
            Made::Call => self.push_container(Value::Call { function, args, state: None }),
            Made::Mapping => self.mapping(args),
            Made::Nothing => self.push(Value::Opaque),
        }
    }

    /// A mapping from the pairs it is made of; Python 2 passes them to the class.
    fn mapping(&mut self, args: Id) -> Result<(), Fault> {
        let list = self.items(args)?.first().copied();
        let pairs = list.map(|list| self.items(list)).transpose()?.unwrap_or_default();
        let pair = |&id: &Id| self.items(id).ok().and_then(|items| <[Id; 2]>::try_from(items).ok());
        let pairs: Option<Vec<[Id; 2]>> = pairs.iter().map(pair).collect();
        let pairs = pairs.ok_or_else(|| Fault::damaged("a dict is made of something else than pairs"))?;
        self.spend(pairs.len())?;
        self.push(Value::Dict(Vec::new()))?;
        self.set(pairs.as_flattened())
    }

    fn items(&self, id: Id) -> Result<&[Id], Fault> {
        match &self.values[id.0 as usize] {
            Value::Tuple(items) => Ok(items),
            Value::List(items) => Ok(items),
            other => Err(Fault::damaged(format!("{} stands where a list is expected", other.noun()))),
        }
    }

    /// Attributes of an object. Those of dictionaries and of what is passed over mean nothing.
    fn build(&mut self) -> Result<(), Fault> {
        let state = self.pop()?;
        let target = self.last()?;
        match &mut self.values[target.0 as usize] {
            Value::Dict(_) | Value::Opaque => Ok(()),
            Value::Call { state: of_call, .. } => {
                *of_call = Some(state);
                self.deepen(target, &[state])
            }
            other => Err(Fault::damaged(format!("it sets attributes of {}", other.noun()))),
        }
    }

    fn append(&mut self, items: &[Id]) -> Result<(), Fault> {
        let target = self.last()?;
        self.deepen(target, items)?;
        match &mut self.values[target.0 as usize] {
            Value::List(list) => list.extend(items),
            Value::Opaque => {}
            other => return Err(Fault::damaged(format!("it appends to {}", other.noun()))),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Result<(), Fault> {
        let target = self.last()?;
        self.deepen(target, items)?;
        let (pairs, rest) = items.as_chunks::<2>();
        match &mut self.values[target.0 as usize] {
            Value::Dict(entries) if rest.is_empty() => {
                entries.extend(pairs.iter().map(|&[key, value]| (key, value)))
            }
            Value::Opaque if rest.is_empty() => {}
            other => return Err(Fault::damaged(format!("it sets items of {}", other.noun()))),
        }
        Ok(())
    }

    fn put(&mut self, at: usize) -> Result<(), Fault> {
        if at >= MOST_OPERATIONS {
            return Err(Fault::limit(format!("memo place {at}"), MOST_OPERATIONS));
        }
        let id = self.last()?;
        if at >= self.memo.len() {
            self.memo.resize(at + 1, None);
        }
        self.memo[at] = Some(id);
        Ok(())
    }

    fn get(&mut self, at: usize) -> Result<(), Fault> {
        match self.memo.get(at) {
            Some(Some(id)) => {
                self.stack.push(*id);
                Ok(())
            }
            _ => Err(Fault::damaged(format!("its pickle reads memo place {at}, which is empty"))),
        }
    }

    fn push(&mut self, value: Value<'a, V>) -> Result<(), Fault> {
        self.push_at(value, 0)
    }

    /// A value that holds others.
    fn push_container(&mut self, value: Value<'a, V>) -> Result<(), Fault> {
        let depth = match &value {
            Value::Tuple(items) => self.depth_over(items),
            Value::List(items) => self.depth_over(items),
            Value::Persistent(id) | Value::Call { args: id, .. } => self.depth_over(&[*id]),
            _ => 0,
        };
        self.push_at(value, depth)
    }

    fn push_at(&mut self, value: Value<'a, V>, depth: u8) -> Result<(), Fault> {
        check_depth(depth)?;
        self.stack.push(Id(self.values.len() as u32)); // fewer than MOST_OPERATIONS
        self.values.push(value);
        self.depths.push(depth);
        Ok(())
    }

    fn deepen(&mut self, target: Id, items: &[Id]) -> Result<(), Fault> {
        let depth = self.depths[target.0 as usize].max(self.depth_over(items));
        self.depths[target.0 as usize] = depth;
        check_depth(depth)
    }

    fn depth_over(&self, items: &[Id]) -> u8 {
        items.iter().map(|id| self.depths[id.0 as usize] + 1).max().unwrap_or(0)
    }

    fn mark(&mut self) -> Result<(), Fault> {
        self.marks.push(self.stack.len());
        check_depth(self.marks.len().min(255) as u8)
    }

    /// What lies on the stack above the last mark.
    fn since_mark(&mut self) -> Result<Vec<Id>, Fault> {
        let height = self.marks.pop().filter(|&height| height <= self.stack.len());
        let height = height.ok_or_else(|| Fault::damaged("its pickle lacks a mark"))?;
        Ok(self.stack.split_off(height))
    }

    fn pop_many(&mut self, n: usize) -> Result<Vec<Id>, Fault> {
        let height = self.stack.len().checked_sub(n).ok_or_else(stack_is_empty)?;
        Ok(self.stack.split_off(height))
    }

    fn pop(&mut self) -> Result<Id, Fault> {
        self.stack.pop().ok_or_else(stack_is_empty)
    }

    fn last(&self) -> Result<Id, Fault> {
        self.stack.last().copied().ok_or_else(stack_is_empty)
    }
}

fn check_depth(depth: u8) -> Result<(), Fault> {
    if depth <= MOST_NESTING {
        Ok(())
    } else {
        Err(Fault::limit("values nested deeper", MOST_NESTING.into()))
    }
}

fn stack_is_empty() -> Fault {
    Fault::damaged("its pickle takes more from the stack than lies there")
}
