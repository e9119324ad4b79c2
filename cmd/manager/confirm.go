package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"redundancypool/manager/control"
)

// yes is the flag of commands that may ask.
type yes struct {
	Yes bool `help:"Answer the confirmations with yes."`
}

// errNotAgreed is what a person said.
var errNotAgreed = errors.New("not confirmed: nothing was changed")

// confirmed runs do; when the Manager wants a confirmation first, the person at the terminal is
// asked. Without a terminal and without --yes it refuses.
func (c console) confirmed(agreed bool, do func(yes bool) (control.Done, error)) error {
	d, err := do(agreed)
	var e *control.Error
	if agreed || !errors.As(err, &e) || len(e.Confirm) == 0 {
		return c.done(d, err)
	}
	if !c.terminal {
		var texts []string
		for _, q := range e.Confirm {
			texts = append(texts, q.Text)
		}
		return fmt.Errorf("confirmation needed: %s: say --yes if that is wanted", strings.Join(texts, "; "))
	}
	lines := bufio.NewReader(c.in)
	for _, q := range e.Confirm {
		if err := c.agree(lines, q); err != nil {
			return err
		}
	}
	return c.done(do(true))
}

// agree asks one question.
func (c console) agree(lines *bufio.Reader, q control.Question) error {
	want := "yes"
	if q.Word != "" {
		want = q.Word
	}
	fmt.Fprintf(c.err, "%s\nType %s to go on: ", q.Text, want)
	line, err := lines.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the confirmation: %w", err)
	}
	if got := strings.TrimSpace(line); got != want && (q.Word != "" || got != "y") {
		return errNotAgreed
	}
	return nil
}

func (c console) done(d control.Done, err error) error {
	if err != nil {
		return err
	}
	if d.Message == "" {
		return nil
	}
	_, err = fmt.Fprintln(c.out, d.Message)
	return err
}

// maxPassword bounds the line that is read.
const maxPassword = 256

// password reads one line from standard input; at a terminal it is not shown.
func (c console) password() (string, error) {
	if c.terminal {
		fmt.Fprint(c.err, "Password: ")
		restore := hideInput()
		defer func() { restore(); fmt.Fprintln(c.err) }()
	}
	line, err := bufio.NewReader(io.LimitReader(c.in, maxPassword+2)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	line = strings.TrimRight(line, "\r\n")
	switch {
	case line == "":
		return "", errors.New("no password on standard input: give one line with it")
	case len(line) > maxPassword:
		return "", fmt.Errorf("the password has more than %d bytes: choose a shorter one", maxPassword)
	}
	return line, nil
}

// hideInput switches the echo of the terminal at standard input off, and returns how to undo it.
func hideInput() (restore func()) {
	fd := int(os.Stdin.Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return func() {}
	}
	quiet := *was
	quiet.Lflag &^= unix.ECHO
	if unix.IoctlSetTermios(fd, unix.TCSETS, &quiet) != nil {
		return func() {}
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, was) } // nothing better can be done
}
