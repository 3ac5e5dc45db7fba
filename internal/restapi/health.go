package restapi

import (
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/rest"
)

// maxHealthSpan bounds the times of a health check, in seconds: a day, as in
// the Go API.
const maxHealthSpan = 24 * 3600

// healthCheck is what the Go API takes for req. There a zero is a default, so a
// zero that was sent is dealt with here: a start period may be none, nothing else.
func healthCheck(req *rest.HealthCheck) (*boxlite.HealthCheck, error) {
	if req == nil {
		return nil, nil
	}
	c := &boxlite.HealthCheck{}
	for _, f := range []struct {
		name  string
		value *float64
		least float64
		to    *time.Duration
	}{
		{"interval", req.Interval, 1, &c.Interval},
		{"timeout", req.Timeout, 1, &c.Timeout},
		{"start_period", req.StartPeriod, 0, &c.StartPeriod},
	} {
		if f.value == nil {
			continue
		}
		if v := *f.value; !(v >= f.least && v <= maxHealthSpan) {
			return nil, httpapi.InvalidArgument.Errorf("advanced.health_check.%s %v: give %v to %d seconds", f.name, v, f.least, maxHealthSpan)
		}
		*f.to = time.Duration(*f.value * float64(time.Second))
	}
	if req.StartPeriod != nil && c.StartPeriod == 0 {
		c.StartPeriod = -1
	}
	if req.Retries != nil {
		if c.Retries = *req.Retries; c.Retries == 0 {
			return nil, httpapi.InvalidArgument.Errorf("advanced.health_check.retries 0: give at least 1")
		}
	}
	return c, nil
}
