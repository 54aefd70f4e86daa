"""Finds the names that a piece of source code takes from around it."""

import ast
import builtins
import symtable
from collections.abc import Iterator
from typing import Any

# What every module has, and what a notebook adds to the built-in names, which no pod has.
_OF_A_MODULE = frozenset({"__builtins__", "__doc__", "__file__", "__name__", "__spec__"})
_OF_A_NOTEBOOK = frozenset({"_", "display", "get_ipython"})
_KNOWN = (frozenset(dir(builtins)) | _OF_A_MODULE) - _OF_A_NOTEBOOK


def free_names(source: str) -> list[str]:
    r"""Return the names that a module of this source reads but does not define, in any order.

    >>> free_names("def train(lr=RATE):\n    import torch\n    print(torch, lr, model)")
    ['RATE', 'model']

    Annotations do not count: a script that begins with `from __future__ import annotations` does
    not evaluate them.
    """
    evaluated = ast.unparse(_WithoutAnnotations().visit(ast.parse(source)))
    scopes = list(_scopes(symtable.symtable(evaluated, "<source>", "exec")))
    module, *inner = scopes
    known = {one.get_name() for one in module.get_symbols() if _is_defined(one)}
    read = {one.get_name() for one in module.get_symbols() if one.is_referenced()}
    for scope in inner:
        of_module = [one for one in scope.get_symbols() if one.is_global()]
        known |= {one.get_name() for one in of_module if _is_defined(one)}
        read |= {one.get_name() for one in of_module if one.is_referenced()}
    return sorted(read - known - _KNOWN)


def relative_imports(source: str) -> list[str]:
    """Return the imports from the package that the source is in, as they are written.

    >>> relative_imports("from .model import Net")
    ['from .model import Net']
    """
    nodes = ast.walk(ast.parse(source))
    return [ast.unparse(one) for one in nodes if isinstance(one, ast.ImportFrom) and one.level]


class _WithoutAnnotations(ast.NodeTransformer):
    """Removes annotations."""

    def visit(self, node: ast.AST) -> Any:
        """Remove the type that a node may have."""
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        return self.generic_visit(node)


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _scopes(child)


def _is_defined(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
