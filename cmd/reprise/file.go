package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	yaml "github.com/goccy/go-yaml/parser"
)

// parseFile reads a configuration file: one flat YAML mapping from a setting's
// name to a scalar or a list of scalars. It returns what it could read and
// everything that is wrong.
func parseFile(path string, raw []byte) (level, []string) {
	tree, err := yaml.ParseBytes(raw, 0)
	if err != nil {
		return nil, []string{fmt.Sprintf("config: %s: %s", path, strings.TrimSpace(yamlMessage(err)))}
	}
	var problems []string
	found := level{}
	known := keys()
	for _, doc := range tree.Docs {
		for _, entry := range entriesOf(doc.Body, path, &problems) {
			at := source(fmt.Sprintf("%s:%d", path, entry.Key.GetToken().Position.Line))
			name := entry.Key.String()
			if _, twice := found[name]; twice {
				problems = append(problems, fmt.Sprintf("%s: given twice (%s)", name, at))
				continue
			}
			text, ok := scalars(entry.Value)
			switch {
			case !slices.Contains(known, name):
				problems = append(problems, fmt.Sprintf("%s: no such setting (%s)%s", name, at, hint(name, "", known)))
			case !ok:
				problems = append(problems, fmt.Sprintf("%s: is neither a plain value nor a list of such (%s)", name, at))
			default:
				found[name] = given{text, at}
			}
		}
	}
	return found, problems
}

// entriesOf returns the entries of a document's mapping.
func entriesOf(body ast.Node, path string, problems *[]string) []*ast.MappingValueNode {
	switch n := body.(type) {
	case nil:
		return nil // an empty document
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	case *ast.CommentGroupNode, *ast.NullNode:
		return nil
	default:
		*problems = append(*problems, fmt.Sprintf("config: %s: is no mapping from settings to values", path))
		return nil
	}
}

// scalars returns a value as the text that a flag would have; the items of a
// list are joined by commas.
func scalars(value ast.Node) (string, bool) {
	if n, ok := value.(*ast.SequenceNode); ok {
		var items []string
		for _, item := range n.Values {
			text, ok := scalar(item)
			if !ok {
				return "", false
			}
			items = append(items, text)
		}
		return strings.Join(items, ","), true
	}
	return scalar(value)
}

func scalar(value ast.Node) (string, bool) {
	switch n := value.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return strings.TrimRight(n.Value.Value, "\n"), true
	case *ast.NullNode:
		return "", true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	default:
		return "", false
	}
}

// yamlMessage is a syntax error on one line; the library draws the source below
// it, and the source may hold secrets.
func yamlMessage(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return first
}
