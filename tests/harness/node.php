<?php

// A node of Reverb's kind, as far as its bus goes: it reads, answers and writes what the captured
// transcripts show, with PHP's own json_decode, serialize and unserialize, and dies of what Reverb
// dies of. Usage: php node.php PORT_OF_REDIS; commands and news are lines of JSON on stdin and stdout.

declare(strict_types=1);

namespace Laravel\Reverb {
    final class Application
    {
        public function __construct(
            protected string $id,
            protected string $key,
            protected string $secret,
            protected int $pingInterval,
            protected int $activityTimeout,
            protected array $allowedOrigins,
            protected int $maxMessageSize,
            protected ?int $maxConnections = null,
            protected string $acceptClientEventsFrom = 'all',
            protected ?array $rateLimiting = null,
            protected array $options = [],
        ) {
        }

        public function id(): string
        {
            return $this->id;
        }
    }
}

namespace Laravel\Reverb\Protocols\Pusher {
    use Laravel\Reverb\Application;

    enum MetricType
    {
        case CONNECTIONS;
        case CHANNELS;
        case CHANNEL;
        case CHANNEL_USERS;
    }

    final class PendingMetric
    {
        protected ?int $subscribers = null;
        protected array $data = [];

        public function __construct(
            protected string $key,
            protected Application $application,
            protected MetricType $type,
            protected array $options,
        ) {
        }

        public function __get(string $name): mixed
        {
            return $this->$name;
        }
    }
}

namespace Node {
    use Laravel\Reverb\Application;
    use Laravel\Reverb\Protocols\Pusher\MetricType;
    use Laravel\Reverb\Protocols\Pusher\PendingMetric;

    const CHANNEL = 'reverb';
    const RETRY_SECONDS = 1.0;
    const WAIT_SECONDS = 10.0;
    const CLASSES = [Application::class, PendingMetric::class, MetricType::class];

    final class Incomplete extends \Exception
    {
    }

    /** One connection to Redis. */
    final class Connection
    {
        public $stream;
        private string $buffer = '';

        public function __construct(int $port)
        {
            $this->stream = @stream_socket_client("tcp://127.0.0.1:$port", timeout: 1);
            if ($this->stream !== false) {
                stream_set_blocking($this->stream, true);
            }
        }

        public function say(string ...$parts): void
        {
            $command = '*' . count($parts) . "\r\n";
            foreach ($parts as $part) {
                $command .= '$' . strlen($part) . "\r\n$part\r\n";
            }
            while ($command !== '') {
                $written = @fwrite($this->stream, $command);
                if ($written === false || $written === 0) {
                    return;
                }
                $command = substr($command, $written);
            }
        }

        /** What Redis has said since; null when it is gone. */
        public function read(): ?array
        {
            $bytes = fread($this->stream, 1 << 20);
            if ($bytes === false || ($bytes === '' && feof($this->stream))) {
                return null;
            }
            $this->buffer .= $bytes;
            [$said, $at] = [[], 0];
            try {
                while ($at < strlen($this->buffer)) {
                    $next = $at;
                    $said[] = $this->value($next);
                    $at = $next;
                }
            } catch (Incomplete) {
            }
            $this->buffer = substr($this->buffer, $at);

            return $said;
        }

        private function value(int &$at): mixed
        {
            $end = strpos($this->buffer, "\r\n", $at);
            if ($end === false) {
                throw new Incomplete();
            }
            $line = substr($this->buffer, $at, $end - $at);
            $at = $end + 2;
            $rest = substr($line, 1);
            if ($line[0] === ':') {
                return (int) $rest;
            }
            if ($line[0] === '$') {
                $text = substr($this->buffer, $at, (int) $rest);
                $at += (int) $rest + 2;
                if ($at > strlen($this->buffer)) {
                    throw new Incomplete();
                }

                return $text;
            }
            if ($line[0] === '*') {
                $values = [];
                for ($left = (int) $rest; $left > 0; $left--) {
                    $values[] = $this->value($at);
                }

                return $values;
            }

            return $rest;
        }
    }

    /** A question to all nodes. */
    final class Question
    {
        public ?int $heard = null;
        public array $answers = [];
        public float $since;

        public function __construct(public readonly MetricType $type)
        {
            $this->since = microtime(true);
        }

        public function isOver(): bool
        {
            $isWhole = $this->heard !== null && count($this->answers) >= $this->heard;

            return $isWhole || microtime(true) - $this->since >= WAIT_SECONDS;
        }

        /** As Reverb adds up: sockets by id, counts summed, users each once. */
        public function merged(): mixed
        {
            return match ($this->type) {
                MetricType::CONNECTIONS => count(array_merge([], ...$this->answers)),
                MetricType::CHANNEL => $this->sum($this->answers),
                MetricType::CHANNELS => $this->channels(),
                MetricType::CHANNEL_USERS => array_values(
                    array_unique(array_merge([], ...$this->answers), SORT_REGULAR)
                ),
            };
        }

        private function channels(): array
        {
            $all = [];
            foreach ($this->answers as $answer) {
                foreach ($answer as $channel => $info) {
                    $all[$channel][] = $info;
                }
            }

            return array_map($this->sum(...), $all);
        }

        private function sum(array $infos): array
        {
            $sum = [];
            foreach ($infos as $info) {
                foreach ($info as $name => $value) {
                    $sum[$name] = match ($name) {
                        'occupied' => ($sum[$name] ?? false) || $value,
                        'user_count', 'subscription_count' => ($sum[$name] ?? 0) + $value,
                        default => $value,
                    };
                }
            }

            return $sum;
        }
    }

    /** The node. */
    final class Node
    {
        private ?Connection $publisher = null;
        private ?Connection $subscriber = null;
        private float $retryAt = 0;
        private array $replies = [];
        /** @var array<string, Question> */
        private array $questions = [];
        private array $knows = [];
        private string $input = '';
        private Application $application;

        public function __construct(private int $port)
        {
            $this->application = new Application(
                'app-1', 'key-1', 'secret-1', 60, 30, ['*'], 10000, null, 'members',
                ['enabled' => false, 'max_attempts' => 60, 'decay_seconds' => 60,
                    'terminate_on_limit' => false],
                ['host' => '127.0.0.1', 'port' => 443, 'scheme' => 'https', 'useTLS' => true],
            );
        }

        public function run(): void
        {
            while (true) {
                if ($this->publisher === null && microtime(true) >= $this->retryAt) {
                    $this->connect();
                }
                $streams = ['input' => STDIN];
                if ($this->publisher !== null) {
                    $streams['publisher'] = $this->publisher->stream;
                    $streams['subscriber'] = $this->subscriber->stream;
                }
                [$none, $nor] = [null, null];
                stream_select($streams, $none, $nor, 0, 50000);
                foreach (array_keys($streams) as $from) {
                    $this->take($from);
                }
                $this->endQuestions();
            }
        }

        private function connect(): void
        {
            $this->retryAt = microtime(true) + RETRY_SECONDS;
            $publisher = new Connection($this->port);
            $subscriber = new Connection($this->port);
            if ($publisher->stream === false || $subscriber->stream === false) {
                return;
            }
            [$this->publisher, $this->subscriber] = [$publisher, $subscriber];
            $this->replies = [];
            $this->subscriber->say('SUBSCRIBE', CHANNEL);
        }

        private function take(string $from): void
        {
            if ($from === 'input') {
                $bytes = fread(STDIN, 1 << 16);
                if ($bytes === false || $bytes === '') {
                    exit(0);
                }
                $lines = explode("\n", $this->input . $bytes);
                $this->input = array_pop($lines);
                foreach ($lines as $line) {
                    $this->obey(json_decode($line, true, flags: JSON_THROW_ON_ERROR));
                }

                return;
            }
            $said = $this->$from?->read();
            if ($said === null) {
                [$this->publisher, $this->subscriber] = [null, null];

                return;
            }
            foreach ($said as $value) {
                $from === 'publisher' ? $this->hearReply($value) : $this->hearPush($value);
            }
        }

        private function hearReply(mixed $receivers): void
        {
            $key = array_shift($this->replies);
            if ($key !== null && isset($this->questions[$key])) {
                $this->questions[$key]->heard = $receivers;
            }
        }

        private function hearPush(array $push): void
        {
            if ($push[0] === 'subscribe') {
                $this->tell(['is' => 'ready']);
            } elseif ($push[0] === 'message') {
                $this->hear($push[2]);
            }
        }

        private function hear(string $text): void
        {
            $message = json_decode($text, true, flags: JSON_THROW_ON_ERROR);
            $type = $message['type'] ?? null;
            if ($type === 'message' || $type === 'terminate') {
                $application = $this->unserialized($message['application'], Application::class);
                $this->tell([
                    'is' => $type,
                    'app' => $application->id(),
                    'payload' => $message['payload'],
                    'socket_id' => $message['socket_id'] ?? null,
                    'node' => $message['node'] ?? null,
                    'seq' => $message['seq'] ?? null,
                    'late' => $message['late'] ?? false,
                ]);
            } elseif ($type === 'metrics') {
                $metric = $this->unserialized($message['payload'], PendingMetric::class);
                $type = $metric->type->name;
                $this->tell(['is' => 'metrics', 'type' => $type, 'options' => $metric->options]);
                $this->publish(null, [
                    'type' => $metric->key,
                    'payload' => $this->knows[$type] ?? [],
                ]);
            } elseif (isset($this->questions[$type])) {
                $this->questions[$type]->answers[] = $message['payload'];
            }
        }

        /** What was serialised; PHP must write the same again. */
        private function unserialized(string $text, string $class): object
        {
            $object = unserialize($text, ['allowed_classes' => CLASSES]);
            if (! $object instanceof $class) {
                throw new \UnexpectedValueException("not a $class");
            }
            if (str_contains($text, 'acceptClientEventsFrom') && serialize($object) !== $text) {
                throw new \UnexpectedValueException("PHP writes it otherwise: $text");
            }

            return $object;
        }

        private function obey(array $command): void
        {
            $application = serialize($this->application);
            match ($command['do']) {
                'publish' => $this->publish(null, array_filter([
                    'type' => 'message',
                    'application' => $application,
                    'payload' => $command['payload'],
                    'socket_id' => $command['socket_id'] ?? null,
                ])),
                'terminate' => $this->publish(null, [
                    'type' => 'terminate',
                    'application' => $application,
                    'payload' => ['user_id' => $command['user_id']],
                ]),
                'know' => $this->knows[$command['type']] = $command['answer'],
                'ask' => $this->ask($command),
            };
        }

        private function ask(array $command): void
        {
            $type = constant(MetricType::class . '::' . $command['type']);
            $key = bin2hex(random_bytes(5));
            $metric = new PendingMetric($key, $this->application, $type, $command['options']);
            $this->questions[$key] = new Question($type);
            $this->publish($key, ['type' => 'metrics', 'payload' => serialize($metric)]);
        }

        private function publish(?string $key, array $message): void
        {
            if ($this->publisher === null) {
                return;
            }
            $this->replies[] = $key;
            $this->publisher->say('PUBLISH', CHANNEL, json_encode($message, JSON_THROW_ON_ERROR));
        }

        private function endQuestions(): void
        {
            foreach ($this->questions as $key => $question) {
                if ($question->isOver()) {
                    unset($this->questions[$key]);
                    $this->tell([
                        'is' => 'answer',
                        'answer' => $question->merged(),
                        'answers' => count($question->answers),
                        'ms' => (int) (1000 * (microtime(true) - $question->since)),
                    ]);
                }
            }
        }

        private function tell(array $news): void
        {
            fwrite(STDOUT, json_encode($news, JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES) . "\n");
        }
    }

    (new Node((int) $argv[1]))->run();
}
