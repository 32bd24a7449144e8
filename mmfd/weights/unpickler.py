"""Pickles of weights, read by allowance.

A pickle is a program for a small machine with a stack. `Unpickler` is such a
machine, with the operations of which PyTorch's files are made and no others.
It is safe because

- all that it makes is None, numbers, text, lists, tuples, dicts, and what the
  functions in `pickled_names` return;
- a name in a pickle is looked up in that table: nothing is imported, no
  attribute is read, and none is set but by `pickled_names.set_state`;
- each operation pays for the memory that it takes from one budget, which grows
  with the file;
- what comes out is a tree: it can be walked, compared and printed.
"""
import pickletools
from struct import Struct
from types import FunctionType

from mmfd.errors import NotWeights, Refused
from mmfd.weights.pickled_names import Stub, check_key, find, set_state

DEEPEST = 100  # containers within each other
LONGEST_NAME = 200  # letters of a function or class
POINTER, NUMBER, CONTAINER, ENTRY = 8, 40, 56, 60  # bytes of memory


class Unpickler:
    """Reads one pickle after another from a file.

    Args:
        file (BinaryIO): at the start of a pickle; left at its end.
        budget (MemoryBudget): for all of them.
        storage (callable): (key, dtype, number of elements) -> Storage.
    """

    def __init__(self, file, budget, storage):
        self.file, self.budget, self.storage = file, budget, storage

    def load(self):
        """The object of the next pickle.

        Raises:
            NotWeights: for operations and names that weights are not made
                of, and for what takes too much memory.
            Exception: of any kind, if the pickle is damaged.
        """
        self.stack, self.marks, self.memo = [], [], []
        read, spend, operations = self.file.read, self.budget.spend, OPERATIONS
        while (code := read(1)) != b'.':
            if code not in operations:
                _refuse_operation(code)
            cost, operation = operations[code]
            spend(cost)
            operation(self)
        if len(self.stack) != 1 or self.marks:
            raise Refused('it ends too early')
        self.check_tree(self.stack)
        return self.stack.pop()

    def check_tree(self, node, depth=0):
        """Pay for each value as often as it would be printed.

        Raises:
            NotWeights: if values are nested too deep, or are too many.
        """
        if depth > DEEPEST:
            raise NotWeights(f'holds lists or dicts within each other, deeper '
                             f'than {DEEPEST} or without end')
        if isinstance(node, Stub):
            node = (*node.args, node.state)
        self.budget.spend(CONTAINER + POINTER * len(node))
        for child in node.values() if isinstance(node, dict) else node:
            if isinstance(child, (list, tuple, dict, Stub)):
                self.check_tree(child, depth + 1)

    def read(self, length):
        """As many bytes, and no fewer."""
        self.budget.spend(length)
        data = self.file.read(length)
        if len(data) < length:
            raise Refused('it ends too early')
        return data

    def pop(self, cls):
        """Take the top of the stack, which has to be of a class."""
        return _of(self.stack.pop(), cls)

    def pop_marked(self):
        """Take from the stack what lies above the last mark."""
        above, self.stack = self.stack, self.marks.pop()
        self.budget.spend(-CONTAINER)
        return above


# --- Operations: functions of an Unpickler, or what makes one ---


def _push(value):
    return lambda self: self.stack.append(value)


def _push_new(container):
    return lambda self: self.stack.append(container())


def _number(layout):
    """Read a number that stands behind an operation."""
    layout = Struct(layout)
    return lambda self: layout.unpack(self.file.read(layout.size))[0]


def _push_number(layout):
    read = _number(layout)
    return lambda self: self.stack.append(read(self))


def _push_text(layout):
    read = _number(layout)

    def push(self):
        data = self.read(read(self))
        if not data.isascii():  # up to four bytes of memory a letter
            self.budget.spend(3 * len(data))
        self.stack.append(data.decode('utf-8', 'surrogatepass'))

    return push


def _push_bytes(layout):
    read = _number(layout)
    return lambda self: self.stack.append(self.read(read(self)))


def _put(layout):
    """Remember the top of the stack. Numbers are given out in order."""
    read = _number(layout)

    def put(self):
        index, memo = read(self), self.memo
        if index == len(memo):
            memo.append(self.stack[-1])
        elif index < len(memo):
            memo[index] = self.stack[-1]
        elif index == 1:  # with which Python 2 begins
            memo += [None, self.stack[-1]]
        else:
            raise Refused(f'it numbers an object {index:,}')

    return put


def _memoize(self):
    self.memo.append(self.stack[-1])


def _get(layout):
    read = _number(layout)
    return lambda self: self.stack.append(self.memo[read(self)])


def _tuple(length):

    def make(self):
        self.stack[-length:] = [tuple(self.stack[-length:])]

    return make


def _push_long(self):
    data = self.read(self.file.read(1)[0])
    self.stack.append(int.from_bytes(data, 'little', signed=True))


def _push_named(self):
    module, name = (
        self.file.readline(LONGEST_NAME).rstrip(b'\n').decode()
        for _ in range(2))
    self.stack.append(find(f'{module}.{name}'))


def _push_named_on_stack(self):
    name, module = self.pop(str), self.pop(str)
    if len(module) + len(name) > LONGEST_NAME:
        raise NotWeights('names an object by a long text')
    self.stack.append(find(f'{module}.{name}'))


def _mark(self):
    self.marks.append(self.stack)
    self.stack = []


def _marked_tuple(self):
    items = self.pop_marked()
    self.stack.append(tuple(items))


def _marked_list(self):
    items = self.pop_marked()
    self.stack.append(items)


def _append(self):
    item = self.stack.pop()
    _of(self.stack[-1], list).append(item)


def _append_marked(self):
    items = self.pop_marked()
    _of(self.stack[-1], list).extend(items)


def _set_item(self):
    value, key = self.stack.pop(), self.stack.pop()
    _of(self.stack[-1], dict)[check_key(key)] = value


def _set_marked_items(self):
    items = self.pop_marked()
    self.budget.spend(ENTRY // 2 * len(items))
    _of(self.stack[-1], dict).update(
        zip(map(check_key, items[::2]), items[1::2], strict=True))


def _call(self):
    arguments, function = self.pop(tuple), self.pop(FunctionType)
    self.stack.append(function(self.budget, *arguments))


def _set_state(self):
    state = self.stack.pop()
    set_state(self.stack[-1], state)


def _push_storage(self):
    """The numbers of a tensor, which lie outside of the pickle."""
    kind, dtype, key, _, length, *view = self.pop(tuple)
    if kind != 'storage' or view not in ([], [None]):
        raise Refused('it refers to what is no storage')
    self.stack.append(self.storage(_of(key, str), dtype, _of(length, int)))


def _of(value, cls):
    """The value, which has to be of a class."""
    if not isinstance(value, cls):
        raise Refused(f'a {type(value).__name__} stands where weights files '
                      f'have a {cls.__name__}')
    return value


def _refuse_operation(code):
    names = {
        each.code.encode('latin1'): each.name
        for each in pickletools.opcodes
    }
    if code not in names:
        raise EOFError('it ends too early' if not code else
                       f'{code!r} is no operation of a pickle')
    raise NotWeights(f'is pickled by an operation of which weights have none '
                     f'({names[code]})')


OPERATIONS = {  # code: (bytes of memory that it takes at most, what it does)
    b'\x80': (0, _number('B')),  # protocol
    b'\x95': (0, _number('<Q')),  # how much is best read at once
    b'N': (POINTER, _push(None)),
    b'\x88': (POINTER, _push(True)),
    b'\x89': (POINTER, _push(False)),
    b'K': (POINTER, _push_number('B')),
    b'M': (NUMBER, _push_number('<H')),
    b'J': (NUMBER, _push_number('<i')),
    b'G': (NUMBER, _push_number('>d')),
    b'\x8a': (NUMBER, _push_long),
    b'X': (CONTAINER, _push_text('<I')),
    b'U': (CONTAINER, _push_text('B')),
    b'\x8c': (CONTAINER, _push_text('B')),
    b'T': (CONTAINER, _push_text('<I')),
    b'C': (CONTAINER, _push_bytes('B')),
    b'B': (CONTAINER, _push_bytes('<I')),
    b'\x96': (CONTAINER, _push_bytes('<Q')),
    b'c': (POINTER, _push_named),
    b'\x93': (POINTER, _push_named_on_stack),
    b')': (POINTER, _push(())),
    b']': (CONTAINER + POINTER, _push_new(list)),
    b'\x8f': (CONTAINER + POINTER, _push_new(list)),  # of a set
    b'}': (4 * CONTAINER, _push_new(dict)),
    b'(': (CONTAINER + POINTER, _mark),
    b't': (CONTAINER, _marked_tuple),
    b'\x91': (CONTAINER, _marked_list),  # of a frozen set
    b'\x85': (CONTAINER, _tuple(1)),
    b'\x86': (CONTAINER, _tuple(2)),
    b'\x87': (CONTAINER, _tuple(3)),
    b'a': (3 * POINTER, _append),
    b'e': (3 * POINTER, _append_marked),
    b'\x90': (3 * POINTER, _append_marked),  # to a set
    b's': (ENTRY, _set_item),
    b'u': (POINTER, _set_marked_items),
    b'q': (POINTER, _put('B')),
    b'r': (POINTER, _put('<I')),
    b'\x94': (POINTER, _memoize),
    b'h': (POINTER, _get('B')),
    b'j': (POINTER, _get('<I')),
    b'R': (POINTER, _call),
    b'\x81': (POINTER, _call),
    b'b': (POINTER, _set_state),
    b'Q': (POINTER, _push_storage),
}
