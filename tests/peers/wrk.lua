-- What wrk does for tests/peers/run: the request that its arguments describe, and figures as one line of
-- JSON.  Arguments: method, body's size in bytes, `close` or `keep`, and how many routes to spread over.

function init(arguments)
    wrk.method = arguments[1]
    local size = tonumber(arguments[2])
    if size > 0 then
        wrk.body = string.rep("x", size)
        wrk.headers["Content-Type"] = "application/octet-stream"
    end
    if arguments[3] == "close" then wrk.headers["Connection"] = "close" end
    local routes = tonumber(arguments[4])
    if routes > 0 then
        -- Spread evenly, so that who looks through a list looks through half of it on average. A hundred
        -- requests, however many routes there are: what the load itself costs is the same then.
        local requests, count, at = {}, 100, 0
        for n = 0, count - 1 do
            local route = math.floor((n + 0.5) * routes / count)
            requests[n] = wrk.format(nil, "/team-" .. route .. "/api/documents/7")
        end
        request = function()
            at = (at + 37) % count
            return requests[at]
        end
    else
        local one = wrk.format()
        request = function() return one end
    end
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '{"requests":%d,"seconds":%f,"bytes":%d,"errors":%d,"p50":%d,"p99":%d,"p999":%d}\n',
        summary.requests, summary.duration / 1e6, summary.bytes,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
