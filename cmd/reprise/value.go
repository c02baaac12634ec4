package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"reprise/hlc"
)

// parser reads a setting's text into its place. Its error says what is wrong
// with the text, without the text.
type parser func(text string) error

// anyText takes any text.
func anyText(p *string) parser {
	return func(text string) error {
		*p = text
		return nil
	}
}

// secretText takes any text and hides it.
func secretText(p *secret) parser {
	return func(text string) error {
		*p = newSecret(text)
		return nil
	}
}

// oneOf takes one of words.
func oneOf(p *string, words ...string) parser {
	return func(text string) error {
		if !slices.Contains(words, text) {
			return fmt.Errorf("is none of %s", strings.Join(words, ", "))
		}
		*p = text
		return nil
	}
}

// boolean takes true or false.
func boolean(p *bool) parser {
	return func(text string) error {
		v, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("is neither true nor false")
		}
		*p = v
		return nil
	}
}

// integer takes a number from low to high.
func integer(p *int, low, high int) parser {
	return func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil {
			return errors.New("is no whole number")
		}
		if n < low || n > high {
			return fmt.Errorf("is not within %d and %d", low, high)
		}
		*p = n
		return nil
	}
}

// duration takes a time such as 30s, not shorter than low.
func duration(p *time.Duration, low time.Duration) parser {
	return func(text string) error {
		d, err := time.ParseDuration(text)
		if err != nil {
			return errors.New("is no duration such as 30s or 1h30m")
		}
		if d < low {
			return fmt.Errorf("is below %v", low)
		}
		*p = d
		return nil
	}
}

// units are the endings of a size, longest first.
var units = []struct {
	ending string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"B", 1}, {"", 1},
}

// size takes a number of bytes such as 256MiB, not smaller than low.
func size(p *int64, low int64) parser {
	return func(text string) error {
		for _, u := range units {
			digits, ok := strings.CutSuffix(text, u.ending)
			if !ok {
				continue
			}
			n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
			if err != nil || n < 0 || n > (1<<62)/u.bytes {
				break
			}
			if n*u.bytes < low {
				return fmt.Errorf("is below %d bytes", low)
			}
			*p = n * u.bytes
			return nil
		}
		return errors.New("is no size such as 256MiB")
	}
}

// frequency takes events per time, such as 20/s; 0 is no limit where zero says so.
func frequency(p *rate.Limit, zero bool) parser {
	return func(text string) error {
		if text == "0" && zero {
			*p = 0
			return nil
		}
		count, per, _ := strings.Cut(text, "/")
		unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[per]
		n, err := strconv.ParseFloat(count, 64)
		if err != nil || unit == 0 || !(n > 0 && n <= 1e9) {
			return errors.New("is no rate such as 20/s")
		}
		*p = rate.Limit(n / unit.Seconds())
		return nil
	}
}

// list takes texts separated by commas. Empty ones are an error.
func list(p *[]string) parser {
	return func(text string) error {
		*p = nil
		if text == "" {
			return nil
		}
		for item := range strings.SplitSeq(text, ",") {
			item = strings.TrimSpace(item)
			if item == "" {
				return errors.New("has an empty item")
			}
			*p = append(*p, item)
		}
		return nil
	}
}

// webOrigins takes origins of web pages, separated by commas: scheme://host or
// a host for any scheme, with a port where it is not the scheme's. There is no
// wildcard, because a token goes with each connection, and no null, because that
// is the origin of every sandboxed page whoever made it.
func webOrigins(p *[]string) parser {
	return listOf(p, func(item string) error {
		with := item
		if !strings.Contains(with, "://") {
			with = "any://" + item
		}
		u, err := url.Parse(with)
		switch {
		case strings.Contains(item, "*"):
			return errors.New("has a wildcard: list each origin")
		case item == "null":
			return errors.New("has null, which is the origin of any sandboxed page")
		case err != nil || u.Hostname() == "" || u.User != nil || strings.TrimSuffix(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
			return fmt.Errorf("has an item that is no origin such as https://app.example: %q", item)
		}
		return nil
	})
}

// hostNames takes host names separated by commas.
func hostNames(p *[]string) parser {
	return listOf(p, func(item string) error {
		_, err := netip.ParseAddr(item)
		if u, e := url.Parse("//" + item); err == nil || e != nil || u.Hostname() != item || strings.ContainsAny(item, "*:@") || !strings.Contains(item, ".") {
			return fmt.Errorf("has an item that is no full host name: %q", item)
		}
		return nil
	})
}

// listOf takes what list does, if check has nothing to say against any item.
func listOf(p *[]string, check func(item string) error) parser {
	return func(text string) error {
		var items []string
		if err := list(&items)(text); err != nil {
			return err
		}
		for _, item := range items {
			if err := check(item); err != nil {
				return err
			}
		}
		*p = items
		return nil
	}
}

// networks takes networks and addresses separated by commas.
func networks(p *[]netip.Prefix) parser {
	return func(text string) error {
		var items []string
		if err := list(&items)(text); err != nil {
			return err
		}
		*p = nil
		for _, item := range items {
			prefix, err := netip.ParsePrefix(item)
			if err != nil {
				var addr netip.Addr
				if addr, err = netip.ParseAddr(item); err == nil {
					prefix = netip.PrefixFrom(addr, addr.BitLen())
				}
			}
			if err != nil {
				return fmt.Errorf("has an item that is no network such as 10.0.0.0/8: %q", item)
			}
			*p = append(*p, prefix.Masked())
		}
		return nil
	}
}

// address takes host:port.
func address(p *string) parser {
	return func(text string) error {
		_, port, err := net.SplitHostPort(text)
		if err != nil {
			return errors.New("is no address such as 127.0.0.1:8080")
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return errors.New("has no port from 0 to 65535")
		}
		*p = text
		return nil
	}
}

// optionalAddress takes host:port or nothing.
func optionalAddress(p *string) parser {
	return func(text string) error {
		if text == "" {
			*p = ""
			return nil
		}
		return address(p)(text)
	}
}

// origin takes a host with or without a port, and no scheme.
func origin(p *string) parser {
	return func(text string) error {
		u, err := url.Parse("//" + text)
		if err != nil || u.Host != text || u.Hostname() == "" {
			return errors.New("is no host:port such as ps.pndsn.com")
		}
		*p = text
		return nil
	}
}

// webURL takes a URL with one of schemes, or nothing.
func webURL(p *string, schemes ...string) parser {
	return func(text string) error {
		if text == "" {
			*p = ""
			return nil
		}
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) {
			return fmt.Errorf("is no URL with %s", strings.Join(schemes, " or "))
		}
		*p = text
		return nil
	}
}

// identifier takes a UUID in lower case with hyphens, or nothing.
func identifier(p *string) parser {
	return func(text string) error {
		id, err := uuid.Parse(text)
		if text != "" && (err != nil || id.String() != text) {
			return errors.New("is no UUID of 36 lower-case characters")
		}
		*p = text
		return nil
	}
}

// cursor takes an hlc, earliest, latest or nothing.
func cursor(p *string) parser {
	return func(text string) error {
		switch text {
		case "", "earliest", "latest":
		default:
			if _, err := hlc.Parse(text); err != nil {
				return errors.New("is neither a cursor of 16 lower-case hex digits nor earliest nor latest")
			}
		}
		*p = text
		return nil
	}
}

// cursorOrAge takes what cursor does, or how long ago.
func cursorOrAge(at *string, age *time.Duration) parser {
	return func(text string) error {
		if d, err := time.ParseDuration(text); err == nil && d > 0 {
			*age = d
			return nil
		}
		if err := cursor(at)(text); err != nil {
			return fmt.Errorf("%w; for dead list: nor a duration such as 24h", err)
		}
		return nil
	}
}

// natsURLs takes NATS servers separated by commas, or nothing.
func natsURLs(p *string) parser {
	return func(text string) error {
		var items []string
		err := listOf(&items, func(item string) error {
			if webURL(new(string), "nats", "tls", "ws", "wss")(item) != nil {
				return errors.New("has an item that is no URL such as nats://127.0.0.1:4222")
			}
			return nil
		})(text)
		if err == nil {
			*p = text
		}
		return err
	}
}

// syncInterval takes a duration or always.
func syncInterval(p *string) parser {
	return func(text string) error {
		if text != "always" {
			if err := duration(new(time.Duration), time.Millisecond)(text); err != nil {
				return errors.New("is neither a duration such as 1s nor always")
			}
		}
		*p = text
		return nil
	}
}
