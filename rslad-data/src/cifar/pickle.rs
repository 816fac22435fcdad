//! A pickle machine for the files of the python archives, and for nothing else: one dictionary of
//! strings, lists of numbers or strings, and arrays of bytes.
//!
//! It runs nothing: three names of NumPy are known, any other is an error. It allocates only what the
//! file holds, values do not nest (a list has no list), and what it meets too often ends it. Opcodes:
//! CPython, Lib/pickletools.py; protocols 2 to 4.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Read;
use std::rc::Rc;

const MAX_OPS: usize = 1_000_000; // the train file of CIFAR-100, with its 50,000 names, takes a third
const MAX_TUPLE: usize = 8;
const MAX_KEYS: usize = 32;
const MAX_SHORT: u64 = 1 << 12; // names of files, keys and globals
const MAX_BYTES: u64 = 1 << 28; // an array: twice that of CIFAR-100

/// What a pickle of these files is made of.
#[derive(Clone, Debug)]
pub(super) enum Value {
    None,
    Int(i64),
    Bytes(Rc<Vec<u8>>),
    /// The numbers of a list; strings in a list are passed over.
    List(Rc<RefCell<Vec<i64>>>),
    /// Values that are no tuples, or tuples of such.
    Tuple(Rc<Vec<Value>>),
    /// Values that are neither dictionaries nor tuples: so nothing nests deeply, and nothing holds itself.
    Dict(Rc<RefCell<Entries>>),
    Global(Global),
    /// A NumPy type of one unsigned byte.
    ByteType,
    Array(Rc<RefCell<Array>>),
}

/// What a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    Reconstruct,
    Ndarray,
    Dtype,
}

/// An array of bytes in row-major order.
#[derive(Clone, Debug, Default)]
pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    pub(super) values: Rc<Vec<u8>>,
}

/// The entries of a dictionary, in the order of the file.
pub(super) type Entries = Vec<(Vec<u8>, Value)>;

type Result<T> = std::result::Result<T, String>;

/// The entries of the dictionary that a pickle is.
///
/// # Errors
/// When it is anything else: says what.
pub(super) fn read(reader: &mut dyn Read) -> Result<Entries> {
    let mut machine = Machine { reader, stack: vec![], marks: vec![], memo: HashMap::new() };
    for _ in 0..MAX_OPS {
        let op = machine.byte()?;
        if op == b'.' {
            return match machine.pop()? {
                Value::Dict(dict) => Ok(dict.take()),
                _ => Err("a pickle of something else, expected a dictionary with `data`".to_owned()),
            };
        }
        machine.run(op)?;
    }
    Err(format!("a pickle of more than {MAX_OPS} steps, expected a file of CIFAR"))
}

struct Machine<'r> {
    reader: &'r mut dyn Read,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

impl Machine<'_> {
    fn run(&mut self, op: u8) -> Result<()> {
        match op {
            0x80 => return self.byte().map(|_| ()),       // PROTO
            0x95 => return self.array::<8>().map(|_| ()), // FRAME
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(());
            }
            b'q' => return self.byte().and_then(|at| self.remember(at.into())),
            b'r' => return self.u32().and_then(|at| self.remember(at)),
            0x94 => return self.remember(self.memo.len() as u32), // MEMOIZE
            b'a' | b'e' => return self.append(op),
            b's' | b'u' => return self.set_items(op),
            b'b' => return self.build(),
            _ => {}
        }
        let value = match op {
            b'N' => Value::None,
            0x88 => Value::Int(1),
            0x89 => Value::Int(0),
            b'K' => Value::Int(self.byte()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'U' | b'C' | 0x8c => self.byte().map(u64::from).and_then(|n| self.bytes(n))?,
            b'T' | b'B' | b'X' => self.u32().map(u64::from).and_then(|n| self.bytes(n))?,
            b']' => Value::List(Rc::default()),
            b'}' => Value::Dict(Rc::default()),
            b')' => Value::Tuple(Rc::default()),
            b't' => self.since_mark().and_then(tuple)?,
            0x85..=0x87 => self.last(usize::from(op - 0x84)).and_then(tuple)?,
            b'h' => self.byte().and_then(|at| self.recall(at.into()))?,
            b'j' => self.u32().and_then(|at| self.recall(at))?,
            b'c' => self.global()?,
            0x93 => self.stack_global()?,
            b'R' => self.reduce()?,
            _ => return Err(format!("pickle operation 0x{op:02x}, expected those of a file of CIFAR")),
        };
        self.stack.push(value);
        Ok(())
    }

    /// `a`: one item to the list below it; `e`: all since the mark.
    fn append(&mut self, op: u8) -> Result<()> {
        let items = if op == b'a' { self.last(1)? } else { self.since_mark()? };
        let Some(Value::List(list)) = self.stack.last() else {
            return Err("a pickle that appends to no list".to_owned());
        };
        for item in items {
            match item {
                Value::Int(number) => list.borrow_mut().push(number),
                Value::Bytes(_) => {} // the name of a file
                _ => return Err("a list of something else, expected numbers or names".to_owned()),
            }
        }
        Ok(())
    }

    /// `s`: one entry to the dictionary below it; `u`: all since the mark.
    fn set_items(&mut self, op: u8) -> Result<()> {
        let items = if op == b's' { self.last(2)? } else { self.since_mark()? };
        let Some(Value::Dict(dict)) = self.stack.last() else {
            return Err("a pickle that sets items of no dictionary".to_owned());
        };
        for pair in items.chunks(2) {
            let [Value::Bytes(key), value] = pair else {
                return Err("a dictionary with something else, expected strings as keys".to_owned());
            };
            let mut dict = dict.borrow_mut();
            let again = dict.iter().any(|(known, _)| known == key.as_ref());
            let nests = matches!(value, Value::Dict(_) | Value::Tuple(_));
            if nests || again || dict.len() == MAX_KEYS || key.len() > 64 {
                return Err("a dictionary with nested, repeated or too many entries".to_owned());
            }
            dict.push((key.to_vec(), value.clone()));
        }
        Ok(())
    }

    /// A name of NumPy, called with a tuple.
    fn reduce(&mut self) -> Result<Value> {
        let (arguments, called) = (self.pop()?, self.pop()?);
        let Value::Tuple(arguments) = arguments else {
            return Err("a pickle that calls something without a tuple".to_owned());
        };
        match (called, &arguments[..]) {
            (Value::Global(Global::Reconstruct), [Value::Global(Global::Ndarray), ..]) => {
                Ok(Value::Array(Rc::default()))
            }
            (Value::Global(Global::Dtype), [Value::Bytes(code), ..]) if code.as_ref() == b"u1" => {
                Ok(Value::ByteType)
            }
            (Value::Global(Global::Dtype), _) => {
                Err("an array of other numbers, expected bytes (u1)".to_owned())
            }
            _ => Err("a pickle that calls something else, expected a NumPy array".to_owned()),
        }
    }

    /// The state of an array or of its type.
    fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        let Value::Tuple(state) = state else {
            return Err("a pickle that builds from no tuple".to_owned());
        };
        match (self.stack.last(), &state[..]) {
            (Some(Value::ByteType), _) => Ok(()), // byte order and alignment do not matter to bytes
            (
                Some(Value::Array(array)),
                [_, Value::Tuple(shape), Value::ByteType, Value::Int(0), Value::Bytes(bytes)],
            ) => {
                let shape: Option<Vec<usize>> = shape.iter().map(side).collect();
                let n =
                    shape.as_ref().and_then(|s| s.iter().try_fold(1usize, |n, side| n.checked_mul(*side)));
                let (Some(shape), true) = (shape, n == Some(bytes.len())) else {
                    return Err(format!("an array of {} bytes that do not fit its shape", bytes.len()));
                };
                let mut array = array.borrow_mut();
                array.shape = shape;
                array.values = Rc::clone(bytes);
                Ok(())
            }
            _ => Err("an array of another form, expected rows of bytes in C order".to_owned()),
        }
    }

    fn global(&mut self) -> Result<Value> {
        let (module, name) = (self.line()?, self.line()?);
        known_global(&module, &name)
    }

    fn stack_global(&mut self) -> Result<Value> {
        let names = self.last(2)?;
        match &names[..] {
            [Value::Bytes(module), Value::Bytes(name)] => known_global(module, name),
            _ => Err("a pickle that names something without a name".to_owned()),
        }
    }

    fn remember(&mut self, at: u32) -> Result<()> {
        let value = self.stack.last().ok_or_else(underflow)?.clone();
        self.memo.insert(at, value);
        Ok(())
    }

    fn recall(&self, at: u32) -> Result<Value> {
        self.memo.get(&at).cloned().ok_or_else(|| format!("a pickle that recalls {at}, which it never kept"))
    }

    fn pop(&mut self) -> Result<Value> {
        self.last(1)?.pop().ok_or_else(underflow)
    }

    /// Takes the `n` values on top, none of them from below a mark.
    fn last(&mut self, n: usize) -> Result<Vec<Value>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let at = self.stack.len().checked_sub(n).filter(|at| *at >= floor).ok_or_else(underflow)?;
        Ok(self.stack.split_off(at))
    }

    fn since_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len()).ok_or_else(underflow)?;
        Ok(self.stack.split_off(mark))
    }

    fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(ended)?;
        Ok(bytes)
    }

    /// A string of a stated length, which the file must hold.
    fn bytes(&mut self, n: u64) -> Result<Value> {
        if n > MAX_BYTES {
            return Err(format!("a string of {n} bytes, expected less than {MAX_BYTES}"));
        }
        let mut bytes = Vec::new();
        let read = self.reader.take(n).read_to_end(&mut bytes).map_err(ended)?;
        if (read as u64) < n {
            return Err(format!("a pickle that ends within a string of {n} bytes; wholly copied?"));
        }
        Ok(Value::Bytes(Rc::new(bytes)))
    }

    fn line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return Ok(line),
                byte if (line.len() as u64) < MAX_SHORT => line.push(byte),
                _ => return Err("a pickle with a name of thousands of letters".to_owned()),
            }
        }
    }
}

impl Array {
    /// The values, which nobody else holds once the machine that read them is gone.
    pub(super) fn into_values(self) -> Vec<u8> {
        Rc::unwrap_or_clone(self.values)
    }
}

fn tuple(items: Vec<Value>) -> Result<Value> {
    let nests = |value: &Value| matches!(value, Value::Tuple(inner) if inner.iter().any(|v| matches!(v, Value::Tuple(_))));
    if items.len() > MAX_TUPLE || items.iter().any(nests) {
        return Err("a pickle with long or nested tuples, expected those of a NumPy array".to_owned());
    }
    Ok(Value::Tuple(Rc::new(items)))
}

fn side(value: &Value) -> Option<usize> {
    match value {
        Value::Int(side) => usize::try_from(*side).ok(),
        _ => None,
    }
}

fn known_global(module: &[u8], name: &[u8]) -> Result<Value> {
    let global = match (module, name) {
        (b"numpy.core.multiarray" | b"numpy._core.multiarray", b"_reconstruct") => Global::Reconstruct,
        (b"numpy", b"ndarray") => Global::Ndarray,
        (b"numpy", b"dtype") => Global::Dtype,
        _ => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
            let (module, name) = (text(module), text(name));
            return Err(format!(
                "a pickle that names {module}.{name}, expected NumPy's array; it was not run"
            ));
        }
    };
    Ok(Value::Global(global))
}

fn underflow() -> String {
    "a pickle that takes what it never put; damaged?".to_owned()
}

fn ended(error: std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "a pickle that ends too early; wholly copied?".to_owned(),
        _ => format!("cannot be read ({error})"),
    }
}
