package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// source says where a value came from: "--listen", "REPRISE_LISTEN",
// "relay.yaml:3", or "default".
type source string

const fromDefault source = "default"

// given is a setting's text before it is read.
type given struct {
	text string
	from source
}

// level is what one source gives: texts by the setting's name. Names of the
// form <secret>-file are in it as they stand.
type level map[string]given

// usageError is a mistake in the command line or the configuration: exit 2.
type usageError struct{ problems []string }

func (e *usageError) Error() string { return strings.Join(e.problems, "\n") }

// usage makes a usageError of one problem.
func usage(format string, args ...any) error {
	return &usageError{problems: []string{fmt.Sprintf(format, args...)}}
}

// environment is the process's variables by name.
type environment map[string]string

func newEnvironment(pairs []string) environment {
	env := environment{}
	for _, pair := range pairs {
		if name, value, ok := strings.Cut(pair, "="); ok {
			env[name] = value
		}
	}
	return env
}

// loader brings the levels together. It collects every problem.
type loader struct {
	command  *command
	levels   []level // the stronger first
	problems []string
	warnings []string // variables that nobody reads
	doubts   []string // see config

	secretFiles map[string]string
}

func (l *loader) problem(format string, args ...any) {
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
}

// load reads the configuration of cmd from its arguments, the environment and
// the file that these name. It returns what is left of the arguments, and
// warnings about variables that nobody reads.
func load(cmd *command, args []string, env environment) (cfg *config, rest, warnings []string, err error) {
	l := &loader{command: cmd, secretFiles: map[string]string{}}
	flags, rest := l.arguments(args)
	variables := l.variables(env)
	l.levels = []level{flags, variables, l.file(flags, env)}

	cfg = &config{file: flags["config"].text, origins: map[string]source{}, shown: map[string]string{}, secretFiles: l.secretFiles}
	for i := range table {
		l.read(&table[i], cfg)
	}
	cfg.follow()
	l.problems = append(l.problems, validate(cmd, cfg, rest)...)
	cfg.doubts = append(l.doubts, cfg.doubts...)
	if len(l.problems) > 0 {
		return nil, nil, nil, &usageError{problems: l.problems}
	}
	return cfg, rest, l.warnings, nil
}

// read finds a setting's text and parses it.
func (l *loader) read(s *setting, cfg *config) {
	g, ok := l.find(s)
	if !ok {
		return
	}
	cfg.origins[s.name], cfg.shown[s.name] = g.from, s.printable(g.text)
	if g.from == fromDefault && g.text == "" {
		return
	}
	if err := s.parse(cfg)(g.text); err != nil {
		l.problem("%s: %q %v (%s)", s.name, s.printable(g.text), err, g.from)
		delete(cfg.origins, s.name) // no further complaint about it
	}
}

// follow changes defaults that follow from other settings.
func (c *config) follow() {
	if c.pubnubLanes && c.origins["pubnub-channels"] == fromDefault {
		c.pubnubChannels = []string{announcementsChannel}
		c.shown["pubnub-channels"] = announcementsChannel
	}
}

// find returns the strongest text that is given for s.
func (l *loader) find(s *setting) (given, bool) {
	for _, level := range l.levels {
		direct, isDirect := level[s.name]
		named, isNamed := level[s.name+"-file"]
		switch {
		case !s.hidden && isDirect, isDirect && !isNamed:
			return direct, true
		case s.hidden && isDirect && isNamed:
			l.problem("%s: given twice, as itself (%s) and as a file (%s)", s.name, direct.from, named.from)
			return given{}, false
		case s.hidden && isNamed:
			return l.secretFile(s, named)
		}
	}
	text := s.def
	if d, ok := l.command.defaults[s.name]; ok {
		text = d
	}
	return given{text: text, from: fromDefault}, true
}

// secretFile reads the file that holds a secret.
func (l *loader) secretFile(s *setting, named given) (given, bool) {
	doubt, err := checkSecretFile(named.text)
	if doubt != "" {
		l.doubts = append(l.doubts, fmt.Sprintf("%s-file: %s (%s)", s.name, doubt, named.from))
	}
	var text string
	if err == nil {
		text, err = readSecret(named.text)
	}
	if err != nil {
		l.problem("%s-file: %v (%s)", s.name, err, named.from)
		return given{}, false
	}
	l.secretFiles[s.name] = named.text
	return given{text: text, from: named.from}, true
}

// variables collects what the environment gives. An empty variable is as good
// as none.
func (l *loader) variables(env environment) level {
	found := level{}
	known := map[string]bool{"REPRISE_CONFIG": true}
	for i := range table {
		s := &table[i]
		names := []string{s.variable()}
		if s.also != "" {
			names = append(names, s.also)
		}
		for _, name := range names {
			known[name] = true
			if _, ok := found[s.name]; !ok && env[name] != "" {
				found[s.name] = given{env[name], source(name)}
			}
		}
		if !s.hidden {
			continue
		}
		name := variableOf(s.name + "-file")
		known[name] = true
		if env[name] == "" {
			continue
		}
		found[s.name+"-file"] = given{env[name], source(name)}
		if g, ok := found[s.name]; ok && g.from == source(s.also) {
			delete(found, s.name) // REPRISE_… beats the other name
		}
	}
	for name := range env {
		if strings.HasPrefix(name, "REPRISE_") && !known[name] && !isServiceLink(name) {
			l.warnings = append(l.warnings, name)
		}
	}
	slices.Sort(l.warnings)
	return found
}

// isServiceLink tells the variables that Kubernetes puts into every container
// for a service of this name.
func isServiceLink(name string) bool {
	return strings.Contains(name, "_SERVICE_") || strings.HasPrefix(name, "REPRISE_PORT")
}

// file reads the configuration file, if one is named and the command has settings.
func (l *loader) file(flags level, env environment) level {
	if len(usedBy(l.command.name)) == 0 {
		return nil
	}
	named, ok := flags["config"]
	if !ok {
		named = given{env["REPRISE_CONFIG"], "REPRISE_CONFIG"}
	}
	if named.text == "" {
		return nil
	}
	raw, err := os.ReadFile(named.text)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		l.problem("config: %s: %v (%s)", named.text, err, named.from)
		return nil
	}
	found, problems := parseFile(named.text, raw)
	l.problems = append(l.problems, problems...)
	return found
}

// nearest returns the word that name was probably meant to be, or "".
func nearest(name string, words []string) string {
	best, distance := "", 1+max(1, len(name)/3)
	for _, word := range words {
		if d := editDistance(name, word); d < distance {
			best, distance = word, d
		}
	}
	return best
}

// editDistance is the least number of letters to add, drop or change
// (Wagner and Fischer 1974).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// hint is a sentence that names the word that was probably meant, or "".
func hint(name, prefix string, words []string) string {
	if word := nearest(name, words); word != "" {
		return fmt.Sprintf("; did you mean %s%s?", prefix, word)
	}
	return ""
}

// keys are all names that a file may hold, sorted.
func keys() []string {
	var names []string
	for i := range table {
		names = append(names, table[i].name)
		if table[i].hidden {
			names = append(names, table[i].name+"-file")
		}
	}
	slices.SortFunc(names, cmp.Compare[string])
	return names
}
