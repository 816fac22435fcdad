//! The values of a pickle: a flat arena that refers to itself by place.
//!
//! References are places, so a value that occurs a million times is stored once, sharing costs nothing, and
//! dropping is a loop: no file can make any of these recurse or multiply.

/// A value of a [`Pickle`], by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(pub(super) u32);

/// A Python object, as far as weights and arrays need it; `V` is the list of names that the pickle may use.
#[derive(Debug)]
pub enum Value<'a, V> {
    /// `None`.
    None,
    /// A truth.
    Bool(bool),
    /// An integer of 64 bits.
    Int(i64),
    /// A float, whatever it is.
    Float,
    /// Text, or a Python 2 string that could be one.
    Str(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A tuple.
    Tuple(Box<[Id]>),
    /// A list.
    List(Vec<Id>),
    /// A dictionary: its keys and values in order.
    Dict(Vec<(Id, Id)>),
    /// A name.
    Global(V),
    /// What a function would be called with, and what the object that it makes would be told then.
    Call {
        /// The function or class.
        function: V,
        /// Its arguments, a tuple.
        args: Id,
        /// The state of the object, if there is one.
        state: Option<Id>,
    },
    /// A reference to something outside the pickle: a storage or a tensor.
    Persistent(Id),
    /// An object that is passed over.
    Opaque,
}

impl<V> Value<'_, V> {
    /// What it is, for messages.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an integer",
            Self::Float => "a float",
            Self::Str(_) => "a string",
            Self::Bytes(_) => "bytes",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dict",
            Self::Global(_) => "a class or function",
            Self::Call { .. } | Self::Persistent(_) => "a tensor, storage or array",
            Self::Opaque => "an object",
        }
    }
}

/// What a pickle holds.
#[derive(Debug)]
pub struct Pickle<'a, V> {
    pub(super) values: Vec<Value<'a, V>>,
    pub(super) top: Id,
}

impl<'a, V> Pickle<'a, V> {
    /// The object that was pickled.
    pub fn top(&self) -> Id {
        self.top
    }

    /// The value at a place.
    pub fn value(&self, id: Id) -> &Value<'a, V> {
        &self.values[id.0 as usize]
    }

    /// All persistent references, by what they refer to.
    pub fn persistent(&self) -> impl Iterator<Item = Id> {
        self.values.iter().filter_map(|v| if let Value::Persistent(id) = v { Some(*id) } else { None })
    }

    /// A string.
    pub fn text(&self, id: Id) -> Option<&'a str> {
        if let Value::Str(text) = self.value(id) { Some(text) } else { None }
    }

    /// The bytes of a string or of bytes: Python 2 does not tell them apart.
    pub fn bytes(&self, id: Id) -> Option<&'a [u8]> {
        match self.value(id) {
            Value::Str(text) => Some(text.as_bytes()),
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// An integer.
    pub fn int(&self, id: Id) -> Option<i64> {
        if let Value::Int(n) = self.value(id) { Some(*n) } else { None }
    }

    /// A number of things: an integer that is not negative.
    pub fn count(&self, id: Id) -> Option<usize> {
        self.int(id).and_then(|n| n.try_into().ok())
    }

    /// The items of a tuple or list.
    pub fn items(&self, id: Id) -> Option<&[Id]> {
        match self.value(id) {
            Value::Tuple(items) => Some(items),
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of a dictionary, in order.
    pub fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        if let Value::Dict(entries) = self.value(id) { Some(entries) } else { None }
    }

    /// The values of a tuple or list of counts, such as a shape.
    pub fn counts(&self, id: Id) -> Option<Vec<usize>> {
        let items = self.items(id)?;
        if items.len() > 8 {
            return None; // no weight has so many dimensions
        }
        items.iter().map(|&item| self.count(item)).collect()
    }
}
